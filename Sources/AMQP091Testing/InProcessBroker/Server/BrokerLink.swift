// SPDX-License-Identifier: Apache-2.0
import AMQP091
import EpollNetworking

// BrokerLink: the octets of one client, in the clear or over TLS, with the same answers. Loop thread only.
// BrokerTLS: what a listener with TLS shows its clients; in builds without the trait TLS it only says that it is missing.

final class BrokerLink {
    private let socket: StreamSocket
    #if TLS
        private let tls: TLSTransport?
    #endif

    init(_ socket: StreamSocket) {
        self.socket = socket
        #if TLS
            self.tls = nil
        #endif
    }

    /// Nil when a TLS connection cannot be made, as when memory runs out.
    init?(_ socket: StreamSocket, _ tls: BrokerTLS?) {
        self.socket = socket
        #if TLS
            do throws(NetworkError) {
                self.tls = try tls.map { (tls) throws(NetworkError) in
                    TLSTransport(socket, try TLSEngine(server: tls.context))
                }
            } catch {
                return nil
            }
        #endif
    }

    var descriptor: CInt { self.socket.descriptor }

    var peerAddress: SocketAddress? { self.socket.peerAddress }

    /// Octets wait that TLS made, beside those the owner has.
    var hasOutput: Bool {
        #if TLS
            self.tls?.hasOutput ?? false
        #else
            false
        #endif
    }

    /// Whether the client has read all that was sent; over TCP nobody knows, and it is true.
    var isTaken: Bool {
        switch self.socket.peerAddress {
        case .ipv4, .ipv6: true
        default: self.socket.unsentCount == 0
        }
    }

    /// The subject of the client's certificate (RFC 2253); nil without one, and before the handshake is done.
    var certificateSubject: String? {
        #if TLS
            self.tls?.session.peerSubject
        #else
            nil
        #endif
    }

    /// Reads; less than the room means that the socket was empty.
    func read(into room: UnsafeMutableRawBufferPointer) -> IOResult {
        #if TLS
            if let tls = self.tls { return tls.read(into: room) }
        #endif
        return self.socket.read(into: room)
    }

    /// Takes octets; with TLS, none while those taken before are not sent, and with none to take it sends those.
    func write(_ octets: UnsafeRawBufferPointer) -> IOResult {
        #if TLS
            if let tls = self.tls {
                let result = tls.flush()
                guard case .count = result, octets.count > 0 else { return result }
                return tls.write(octets)
            }
        #endif
        return self.socket.write(octets)
    }

    func finishWriting() {
        self.sayGoodbye()
        self.socket.finishWriting()
    }

    func close() {
        self.sayGoodbye()
        self.socket.close()
    }

    func reset() { self.socket.reset() }

    private func sayGoodbye() {
        #if TLS
            self.tls?.sayGoodbye()
        #endif
    }
}

final class BrokerTLS: Sendable {
    #if TLS
        let context: TLSContext
    #endif

    /// Nil when no endpoint uses TLS.
    init?(_ options: InProcessBroker.Options) throws {
        guard options.endpoints.contains(where: \.usesTLS) else { return nil }
        guard let tls = options.tls else {
            throw AMQPError(.invalidConfiguration, "an endpoint with TLS needs a certificate: set Options.tls")
        }
        #if TLS
            var configuration = TLSConfiguration.identity(
                certificateChain: tls.certificateChain,
                privateKey: tls.privateKey
            )
            if let authority = tls.clientAuthority {
                configuration.roots = .file(path: authority)
                configuration.clientVerification = .required
            }
            self.context = try TLSContext(configuration, role: .server)
        #else
            _ = tls
            throw AMQPError(.invalidConfiguration, "TLS is not compiled in: enable the trait TLS of swift-amqp091")
        #endif
    }
}
