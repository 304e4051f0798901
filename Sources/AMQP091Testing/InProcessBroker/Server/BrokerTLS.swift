// SPDX-License-Identifier: Apache-2.0
import AMQP091
import EpollNetworking

// BrokerTLS: what a listener with TLS shows its clients; in builds without the trait TLS it only says that it is missing.

final class BrokerTLS: Sendable {
    let context: TLSContext

    /// Nil when no endpoint uses TLS.
    init?(_ options: InProcessBroker.Options) throws {
        guard options.endpoints.contains(where: \.usesTLS) else { return nil }
        guard let tls = options.tls else {
            throw AMQPError(.invalidConfiguration, "an endpoint with TLS needs a certificate: set Options.tls")
        }
        guard TLSContext.isAvailable else {
            throw AMQPError(.invalidConfiguration, "TLS is not compiled in: enable the trait TLS of swift-amqp091")
        }
        var configuration = TLSConfiguration.identity(
            certificateChain: tls.certificateChain,
            privateKey: tls.privateKey
        )
        if let authority = tls.clientAuthority {
            configuration.roots = .file(path: authority)
            configuration.clientVerification = .required
        }
        self.context = try TLSContext(configuration, role: .server)
    }

    /// The octets of a client; nil when a TLS connection cannot be made, as when memory runs out.
    static func transport(_ socket: StreamSocket, _ tls: BrokerTLS?) -> (any ByteTransport)? {
        guard let tls else { return socket }
        guard let engine = try? TLSEngine(server: tls.context) else { return nil }
        return TLSTransport(socket, engine)
    }
}
