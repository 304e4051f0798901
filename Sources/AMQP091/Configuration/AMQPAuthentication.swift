// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import EpollConcurrency
import EpollNetworking
import SecretValues

// AMQPAuthentication: how the client says who it is. What goes onto the wire is SASLMechanism's.

/// How the client says who it is.
public struct AMQPAuthentication: Hashable, Sendable, CustomStringConvertible {
    /// How a user name and a password, or a certificate, are shown to the broker (SASL).
    public struct Mechanism: Hashable, Sendable, CustomStringConvertible {
        /// The name on the wire.
        public let description: String
        /// User name and password, RFC 4616.
        public static let plain = Mechanism(description: "PLAIN")
        /// User name and password, in AMQP's own form.
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

    /// Empty where a provider gives it.
    let username: String
    @Secret var password: String
    /// The preferred first; the first that the broker offers is used.
    let mechanisms: [Mechanism]
    let provider: AMQPCredentialsProvider?
    /// When what the provider gave is good no more.
    var expiry: MonotonicTime?

    /// User name and password.
    ///
    /// - Parameters:
    ///   - username: Sent to the broker.
    ///   - password: Sent to the broker, in the clear unless the connection uses TLS.
    ///   - mechanisms: Those to use, the preferred first; the first that the broker offers is used.
    /// - Returns: The authentication.
    public static func plain(
        username: String,
        password: String,
        mechanisms: [Mechanism] = [.plain]
    ) -> AMQPAuthentication {
        AMQPAuthentication(username: username, password: password, mechanisms: mechanisms, provider: nil)
    }

    /// The client's certificate says who it is: SASL EXTERNAL, for mutual TLS.
    public static let external = AMQPAuthentication(
        username: "",
        password: "",
        mechanisms: [.external],
        provider: nil
    )

    /// User name and password that are asked for at every connect.
    ///
    /// - Parameters:
    ///   - provider: Gives them.
    ///   - mechanisms: Those to use, the preferred first.
    /// - Returns: The authentication.
    public static func provided(
        by provider: AMQPCredentialsProvider,
        mechanisms: [Mechanism] = [.plain]
    ) -> AMQPAuthentication {
        AMQPAuthentication(username: "", password: "", mechanisms: mechanisms, provider: provider)
    }

    /// The mechanisms and the user name, never the password.
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

    /// With what the provider gives now.
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

    /// With another password.
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
