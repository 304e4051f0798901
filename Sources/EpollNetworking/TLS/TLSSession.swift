// SPDX-License-Identifier: Apache-2.0
// TLSSession: what the two sides of a TLS connection agreed on.

/// What the two sides of a TLS connection agreed on.
public struct TLSSession: Hashable, Sendable {
    /// `TLSv1.2` or `TLSv1.3`.
    public let version: String
    /// The cipher, as OpenSSL names it, such as `TLS_AES_256_GCM_SHA384`.
    public let cipher: String
    /// The protocol agreed on (ALPN), if any.
    public let applicationProtocol: String?
    /// Whether an earlier session was resumed.
    public let isResumed: Bool
    /// The subject of the peer's certificate (RFC 2253), if it showed one.
    public let peerSubject: String?
}
