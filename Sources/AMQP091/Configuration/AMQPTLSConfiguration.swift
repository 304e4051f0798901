// SPDX-License-Identifier: Apache-2.0
internal import SecretValues

// AMQPTLSConfiguration: how a connection uses TLS, as a value. What it takes to do so is in EpollNetworking, and only
// in builds with the package's trait TLS; in others a connect with it is refused with a sentence that says so.

/// How a connection to a broker uses TLS.
///
/// TLS 1.2 or later; the broker's certificate is verified, and its host name too.
public struct AMQPTLSConfiguration: Hashable, Sendable {
    /// Who is trusted to issue the broker's certificate.
    public enum Roots: Hashable, Sendable {
        /// Those the operating system trusts.
        case system
        /// Those in a file of PEM certificates.
        case file(path: String)
    }

    /// How the broker's certificate is looked at.
    public enum Verification: Hashable, Sendable {
        /// It must be valid, trusted, and for the host that was asked for.
        case full
        /// It is not looked at (`verify=verify_none` in a URI): anyone can pose as the broker.
        case insecureNothing
    }

    /// Who is trusted.
    public var roots: Roots
    /// The PEM file of the client's certificate, for brokers that ask for one.
    public var certificateChain: String?
    /// The PEM file of its private key; nil when it is in the file of the certificate.
    public var privateKey: String?
    /// The password of an encrypted private key; shown by no description and no reflection.
    public var privateKeyPassword: String? {
        get { self.keyPassword }
        set { self.keyPassword = newValue }
    }
    @Secret var keyPassword: String? = nil
    /// The name to ask for (SNI) and to expect in the certificate; nil takes the host of the address.
    public var serverName: String?
    /// How the broker's certificate is looked at.
    public var verification = Verification.full

    /// TLS with these roots, and a certificate where the broker asks for one.
    ///
    /// - Parameters:
    ///   - roots: Who is trusted.
    ///   - certificateChain: The PEM file of the client's certificate.
    ///   - privateKey: The PEM file of its private key; nil when it is in the file of the certificate.
    ///   - privateKeyPassword: The password of an encrypted private key.
    /// - Returns: The settings.
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
    /// The settings without the password.
    public var description: String {
        "TLS, roots \(self.roots), certificate \(self.certificateChain ?? "none"), \(self.verification)"
    }
}
