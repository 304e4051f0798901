// SPDX-License-Identifier: Apache-2.0
import EpollNetworking

// ConnectionTLS: from the options of a connection to its transport, with and without TLS.
// Not here: TLS itself (TLSTransport, TLSEngine).

enum ConnectionTLS {
    /// A connection to this address uses TLS: what it takes, or the sentence that says what is missing.
    static func prepareTLS(_ configuration: AMQPTLSConfiguration?) throws(AMQPError) -> TLSContext? {
        guard let configuration else { return nil }
        guard TLSContext.isAvailable else { throw AMQPError(.invalidConfiguration, Self.noTLS, isSafeToRetry: true) }
        do throws(NetworkError) {
            return try TLSContext(configuration.network, role: .client)
        } catch {
            throw AMQPError(.invalidConfiguration, error.description, isSafeToRetry: true)
        }
    }

    /// The name of a host as TLS wants it: without the dot at the end of an absolute name, and without an address's zone.
    ///
    /// RFC 6066 section 3 allows no dot in SNI, and no certificate has one.
    static func serverName(_ host: String) -> String {
        if host.contains(":") { return String(host.prefix { $0 != "%" }) }
        return host.hasSuffix(".") ? String(host.dropLast()) : host
    }

    static let noTLS = "TLS is not compiled in: enable the trait TLS of swift-amqp091 and install libssl-dev"

    /// The transport of a connection: that of its octets, or TLS on it.
    static func transport(
        _ lower: any ByteTransport,
        _ tls: (context: TLSContext, host: String)?
    ) throws(AMQPError) -> any ByteTransport {
        guard let tls else { return lower }
        do throws(NetworkError) {
            return TLSTransport(lower, try TLSEngine(client: tls.context, host: tls.host))
        } catch {
            throw AMQPError(error)
        }
    }
}

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
        network.serverName = self.serverName.map { ConnectionTLS.serverName($0) }
        network.serverVerification = self.verification == .full ? .full : .insecureNone
        return network
    }
}
