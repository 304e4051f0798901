// SPDX-License-Identifier: Apache-2.0
import EpollNetworking
import SystemPackage

// The part of a connection's driver that differs with TLS: only the loop writes, never a caller, because OpenSSL wants
// one thread at a time; and what was encrypted must be sent before more is.

extension ConnectionDriver {
    /// A connection to this address uses TLS: what it takes, or the sentence that says what is missing.
    static func prepareTLS(_ configuration: AMQPTLSConfiguration?) throws(AMQPError) -> TLSPreparation? {
        guard let configuration else { return nil }
        #if TLS
            do throws(NetworkError) {
                return try TLSContext(configuration.network, role: .client)
            } catch {
                throw AMQPError(.invalidConfiguration, error.description, isSafeToRetry: true)
            }
        #else
            _ = configuration
            throw AMQPError(.invalidConfiguration, Self.noTLS, isSafeToRetry: true)
        #endif
    }

    /// The name of a host as TLS wants it: without the dot at the end of an absolute name, and without an address's zone.
    ///
    /// RFC 6066 section 3 allows no dot in SNI, and no certificate has one.
    static func serverName(_ host: String) -> String {
        if host.contains(":") { return String(host.prefix { $0 != "%" }) }
        return host.hasSuffix(".") ? String(host.dropLast()) : host
    }

    static let noTLS = "TLS is not compiled in: enable the trait TLS of swift-amqp091 and install libssl-dev"

    #if TLS
        typealias TLSPreparation = TLSContext

        /// Writes what was taken; drained when the socket has all of it.
        func writeTaken(through tls: TLSTransport) -> WriteEnd {
            while true {
                var result = tls.flush()
                if case .count = result {
                    guard self.written < self.writing.count else { break }
                    result = self.writing.withUnsafeBytes { octets in
                        tls.write(UnsafeRawBufferPointer(rebasing: octets[self.written...]))
                    }
                }
                switch result {
                case .count(let count): self.written += count
                case .wouldBlock: return .wouldBlock
                case .endOfStream: return .failed(SystemError(errno: .brokenPipe, call: "send"))
                case .failed(let error): return .failed(error)
                }
            }
            self.writing.removeAll(keepingCapacity: true)
            self.written = 0
            return .drained
        }
    #else
        /// Never made: `prepareTLS` has refused before.
        struct TLSPreparation {}
    #endif

    /// Why the link broke: TLS says more than the system's error.
    func linkLost(_ error: SystemError) -> AMQPError {
        #if TLS
            if let failure = self.tls?.failure {
                let isLoggingIn = self.openWaiter != nil
                return AMQPError(
                    isLoggingIn ? .connectFailed : .connectionClosed,
                    failure.description,
                    scope: .connection,
                    isSafeToRetry: isLoggingIn
                )
            }
        #endif
        return Self.linkLost(error)
    }
}

#if TLS
    extension AMQPTLSConfiguration {
        fileprivate var network: TLSConfiguration {
            var network = TLSConfiguration.client()
            switch self.roots {
            case .system: network.roots = .system
            case .file(let path): network.roots = .file(path: path)
            }
            network.certificateChain = self.certificateChain
            network.privateKey = self.privateKey
            network.privateKeyPassword = self.privateKeyPassword
            network.serverName = self.serverName.map { ConnectionDriver.serverName($0) }
            network.serverVerification = self.verification == .full ? .full : .insecureNothing
            return network
        }
    }
#endif
