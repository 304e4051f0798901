// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import EpollConcurrency
import EpollNetworking
import SecretValues

// AMQPAuthentication: the client's credentials. Their encoding is SASLMechanism.

/// The credentials of a client.
public struct AMQPAuthentication: Hashable, Sendable, CustomStringConvertible {
    /// A SASL mechanism: how credentials are sent to the broker.
    public struct Mechanism: Hashable, Sendable, CustomStringConvertible {
        /// The name on the wire.
        public let description: String
        /// User name and password, RFC 4616.
        public static let plain = Mechanism(description: "PLAIN")
        /// User name and password as a field table, AMQPLAIN.
        public static let amqplain = Mechanism(description: "AMQPLAIN")
        /// The certificate of the TLS connection.
        public static let external = Mechanism(description: "EXTERNAL")

        init?(named name: String) {
            switch name.uppercased() {
            case "PLAIN": self = .plain
            case "AMQPLAIN": self = .amqplain
            case "EXTERNAL": self = .external
            default: return nil
            }
        }

        private init(description: String) { self.description = description }
    }

    /// The user name; empty with a provider.
    let username: String
    @Secret var password: String
    /// The mechanisms, the preferred first; the first that the broker offers is used.
    let mechanisms: [Mechanism]
    let provider: AMQPCredentialsProvider?
    /// Expiry of the provider's credentials.
    var expiry: MonotonicTime?

    /// Creates credentials of user name and password.
    ///
    /// - Parameters:
    ///   - username: The user name.
    ///   - password: The password, sent in clear text unless the connection uses TLS.
    ///   - mechanisms: The mechanisms, the preferred first; the first that the broker offers is used.
    /// - Returns: The authentication.
    public static func plain(
        username: String,
        password: String,
        mechanisms: [Mechanism] = [.plain]
    ) -> AMQPAuthentication {
        AMQPAuthentication(username: username, password: password, mechanisms: mechanisms, provider: nil)
    }

    /// Authentication by the client certificate: SASL EXTERNAL, for mutual TLS.
    public static let external = AMQPAuthentication(
        username: "",
        password: "",
        mechanisms: [.external],
        provider: nil
    )

    /// Creates credentials that a provider supplies at every connect.
    ///
    /// - Parameters:
    ///   - provider: The provider.
    ///   - mechanisms: The mechanisms, the preferred first.
    /// - Returns: The authentication.
    public static func provided(
        by provider: AMQPCredentialsProvider,
        mechanisms: [Mechanism] = [.plain]
    ) -> AMQPAuthentication {
        AMQPAuthentication(username: "", password: "", mechanisms: mechanisms, provider: provider)
    }

    /// The mechanisms and the user name, without the password.
    public var description: String {
        let names = self.mechanisms.map(\.description).joined(separator: " ")
        if self.provider != nil { return "\(names), user from a provider" }
        return self.mechanisms == [.external] ? names : "\(names), user \(self.username)"
    }

    var sasl: [SASLMechanism] {
        self.mechanisms.map { mechanism in
            switch mechanism {
            case .amqplain: .amqplain(user: self.username, password: self._password)
            case .external: .external
            default: .plain(user: self.username, password: self._password)
            }
        }
    }

    /// Returns a copy with the provider's current credentials.
    func resolved() async throws(AMQPError) -> AMQPAuthentication {
        guard let provider = self.provider else { return self }
        let credentials = try await provider.credentials()
        return AMQPAuthentication(
            username: credentials.username,
            password: credentials.password,
            mechanisms: self.mechanisms,
            provider: provider,
            expiry: credentials.lifetime.map { .now + $0 }
        )
    }

    /// Returns a copy with another password.
    func with(password: String) -> AMQPAuthentication {
        AMQPAuthentication(
            username: self.username,
            password: password,
            mechanisms: self.mechanisms,
            provider: self.provider,
            expiry: self.expiry
        )
    }
}
