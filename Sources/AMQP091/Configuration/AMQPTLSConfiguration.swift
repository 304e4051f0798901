// SPDX-License-Identifier: Apache-2.0
internal import SecretValues

// AMQPTLSConfiguration: the TLS options of a connection. The implementation is in EpollNetworking, in builds with the
// trait TLS only; other builds refuse a connect with it with an error that names the trait.

/// The TLS options of a connection.
///
/// TLS 1.2 or later; the broker's certificate and host name are verified.
public struct AMQPTLSConfiguration: Hashable, Sendable {
    /// The trusted certificate authorities.
    public enum Roots: Hashable, Sendable {
        /// The operating system's authorities.
        case system
        /// The authorities in a PEM file.
        case file(path: String)
    }

    /// Verification of the broker's certificate.
    public enum Verification: Hashable, Sendable {
        /// The certificate must be valid, trusted, and issued for the requested host.
        case full
        /// The certificate is not verified (`verify=verify_none` in a URI): anyone can impersonate the broker.
        case insecureNone
    }

    /// The trusted certificate authorities.
    public var roots: Roots
    /// The PEM file of the client certificate, for brokers that request one.
    public var certificateChain: String?
    /// The PEM file of the private key; nil if it is in the certificate's file.
    public var privateKey: String?
    /// The password of an encrypted private key; excluded from descriptions and reflection.
    public var privateKeyPassword: String? {
        get { self.keyPassword }
        set { self.keyPassword = newValue }
    }
    @Secret var keyPassword: String? = nil
    /// The server name for SNI and verification; nil takes the host of the address.
    public var serverName: String?
    /// Verification of the broker's certificate.
    public var verification = Verification.full

    /// Requires TLS with these authorities, and with a client certificate if the broker requests one.
    ///
    /// - Parameters:
    ///   - roots: The trusted certificate authorities.
    ///   - certificateChain: The PEM file of the client certificate.
    ///   - privateKey: The PEM file of the private key; nil if it is in the certificate's file.
    ///   - privateKeyPassword: The password of an encrypted private key.
    /// - Returns: The options.
    public static func require(
        roots: Roots = .system,
        certificateChain: String? = nil,
        privateKey: String? = nil,
        privateKeyPassword: String? = nil
    ) -> AMQPTLSConfiguration {
        AMQPTLSConfiguration(
            roots: roots,
            certificateChain: certificateChain,
            privateKey: privateKey,
            keyPassword: privateKeyPassword
        )
    }
}

extension AMQPTLSConfiguration: CustomStringConvertible {
    /// The options without the password.
    public var description: String {
        "TLS, roots \(self.roots), certificate \(self.certificateChain ?? "none"), \(self.verification)"
    }
}
