// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
internal import SecretValues

// TLSConfiguration: what one side of TLS is set to, as a value. It opens nothing; TLSContext does.

/// Settings of TLS, for a client or a server.
///
/// TLS 1.2 or later, and the peer of a client is always verified, its host name too, unless something in these settings
/// whose name says so turns it off.
public struct TLSConfiguration: Hashable, Sendable {
    /// Who is trusted to issue certificates.
    public enum Roots: Hashable, Sendable {
        /// The operating system's authorities.
        case system
        /// The authorities in a PEM file.
        case file(path: String)
        /// Those in a directory prepared by `openssl rehash`.
        case directory(path: String)
    }

    /// A version of TLS.
    public enum Version: Int, Hashable, Sendable, Comparable {
        /// RFC 5246.
        case tls12 = 12
        /// RFC 8446.
        case tls13 = 13

        /// The earlier is less.
        public static func < (left: Version, right: Version) -> Bool { left.rawValue < right.rawValue }
    }

    /// How a client looks at the server's certificate.
    public enum ServerVerification: Hashable, Sendable {
        /// The certificate must be valid, trusted, and issued for the requested host.
        case full
        /// It must be valid and trusted; anyone with any trusted certificate can pose as the server.
        case insecureAnyHost
        /// It is not looked at; anyone can pose as the server.
        case insecureNone
    }

    /// Whether a server asks for a client's certificate.
    public enum ClientVerification: Hashable, Sendable {
        /// It does not ask.
        case none
        /// It asks, and verifies a certificate that it gets.
        case optional
        /// It asks, and refuses a client without one.
        case required
    }

    /// The trusted certificate authorities.
    public var roots = Roots.system
    /// The file of this side's certificate and those that lead to a root, in PEM; a server needs one.
    public var certificateChain: String?
    /// The file of the private key, in PEM; nil when it is in the file of the certificate.
    public var privateKey: String?
    /// The password of an encrypted private key; excluded from descriptions and reflection.
    public var privateKeyPassword: String? {
        get { self.keyPassword }
        set { self.keyPassword = newValue }
    }
    @Secret private var keyPassword: String? = nil
    /// The oldest version that is accepted.
    public var minimumVersion = Version.tls12
    /// The newest version that is offered.
    public var maximumVersion = Version.tls13
    /// Protocols to agree on (ALPN, RFC 7301), the preferred first, each 1 to 255 octets; none unless named.
    public var applicationProtocols: [String] = []
    /// The name a client asks for (SNI) and expects in the certificate; nil takes the host it connects to.
    public var serverName: String?
    /// How a client looks at the server's certificate.
    public var serverVerification = ServerVerification.full
    /// Whether a server asks for a client's certificate.
    public var clientVerification = ClientVerification.none
    /// Whether a later connection may resume the session of an earlier one, which saves it the certificates.
    public var resumesSessions = true
    /// A file to which the secrets of every connection are appended, for tools such as Wireshark; none unless named.
    ///
    /// Whoever can read it can read the connections.
    public var keyLogFile: String?

    /// A client that trusts `roots` and has no certificate.
    public static func client(roots: Roots = .system) -> TLSConfiguration {
        var configuration = TLSConfiguration()
        configuration.roots = roots
        return configuration
    }

    /// A server with a certificate, or a client that shows one.
    ///
    /// - Parameters:
    ///   - certificateChain: A PEM file.
    ///   - privateKey: A PEM file; nil when the key is in the file of the certificate.
    ///   - roots: Who is trusted to issue the peer's certificate.
    /// - Returns: The options.
    public static func identity(
        certificateChain: String,
        privateKey: String? = nil,
        roots: Roots = .system
    ) -> TLSConfiguration {
        var configuration = TLSConfiguration()
        configuration.certificateChain = certificateChain
        configuration.privateKey = privateKey
        configuration.roots = roots
        return configuration
    }

    private init() {}
}
