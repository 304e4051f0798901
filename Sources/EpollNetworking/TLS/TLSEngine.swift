// SPDX-License-Identifier: Apache-2.0
import CTLS
import Glibc

// TLSEngine: one connection's TLS without a socket: octets of the peer in, plaintext out, and the other way round.
// The owner moves octets between the socket and the two buffers, in order, and lets one thread in at a time.
// Unsafe: owns one C connection; every pointer to its buffers is lent inside a closure and stale after it.
//
//   peer ---withInputRoom---> [input] ---read---> plaintext
//   plaintext ---write---> [output] ---withOutput---> peer
//
// `handshake` is called until it is done, with both buffers served in between; reading and writing come after.

package final class TLSEngine {
    package enum Read: Equatable {
        case count(Int)
        /// More octets of the peer are needed.
        case wantsInput
        /// The peer said that it sends no more.
        case closed
    }

    private let connection: OpaquePointer
    private let context: TLSContext
    private let handle: TLSContext.Handle
    /// The host a client expects; empty for a server.
    private let host: String
    private var hasInputEnded = false

    package convenience init(client context: TLSContext, host: String) throws(NetworkError) {
        let name = Self.certifiedName(context.configuration.serverName ?? host)
        try self.init(context, host: name)
        ctls_clear_errors()
        let isAddress = Self.isAddress(self.host)
        // RFC 6066: the name asked for is never an address.
        if !isAddress, !self.host.isEmpty, ctls_set_server_name(self.connection, self.host) != 1 {
            throw .tls("'\(self.host)' cannot be a server's name.")
        }
        if context.configuration.serverVerification == .full {
            guard !self.host.isEmpty else {
                throw .tls("There is no host name to verify the server's certificate against: set serverName.")
            }
            guard ctls_set_expected_host(self.connection, self.host, isAddress ? 1 : 0) == 1 else {
                throw .tls("'\(self.host)' cannot be a server's name.")
            }
        }
        if let session = context.session(for: self.host) { _ = ctls_set_session(self.connection, session.pointer) }
    }

    /// The name as certificates have it: without the dot at the end of an absolute name (RFC 6066), and without the zone of
    /// an IPv6 address, which only means something on this host.
    static func certifiedName(_ host: String) -> String {
        if let zone = host.firstIndex(of: "%"), Self.isAddress(String(host[..<zone])) {
            return String(host[..<zone])
        }
        return host.count > 1 && host.hasSuffix(".") ? String(host.dropLast()) : host
    }

    private static func isAddress(_ host: String) -> Bool {
        var octets = [UInt8](repeating: 0, count: 16)
        return inet_pton(AF_INET, host, &octets) == 1 || inet_pton(AF_INET6, host, &octets) == 1
    }

    package convenience init(server context: TLSContext) throws(NetworkError) {
        try self.init(context, host: "")
    }

    private init(_ context: TLSContext, host: String) throws(NetworkError) {
        let handle = context.handle
        guard !host.utf8.contains(0),
            let connection = ctls_connection_new(handle.pointer, context.role == .server ? 1 : 0)
        else { throw .tls("A TLS connection cannot be made.") }
        self.context = context
        self.handle = handle
        self.host = host
        self.connection = connection
    }

    deinit { ctls_connection_free(self.connection) }

    // MARK: the peer's octets

    /// Lends room for octets of the peer; `body` says how many it put there.
    ///
    /// The room is empty when what is there must be read first.
    package func withInputRoom(_ body: (UnsafeMutableRawBufferPointer) -> Int) {
        var count = 0
        guard let room = ctls_input_room(self.connection, &count), count > 0 else {
            _ = body(UnsafeMutableRawBufferPointer(start: nil, count: 0))
            return
        }
        let filled = body(UnsafeMutableRawBufferPointer(start: room, count: count))
        precondition(filled >= 0 && filled <= count, "more octets than there was room for")
        ctls_input_filled(self.connection, filled)
    }

    /// The peer's octets have ended; without its word before, reading fails: somebody may have cut them off.
    package func inputEnded() {
        self.hasInputEnded = true
        ctls_input_ended(self.connection)
    }

    package var outputCount: Int {
        var count = 0
        _ = ctls_output(self.connection, &count)
        return count
    }

    /// Lends what is to be sent; `body` says how much of it was.
    package func withOutput(_ body: (UnsafeRawBufferPointer) -> Int) {
        var count = 0
        guard let octets = ctls_output(self.connection, &count), count > 0 else { return }
        let sent = body(UnsafeRawBufferPointer(start: octets, count: count))
        precondition(sent >= 0 && sent <= count, "more octets sent than there were")
        ctls_output_sent(self.connection, sent)
    }

    // MARK: the owner's octets

    /// True when done; false when more octets of the peer are needed.
    ///
    /// Output is to be sent in every case, also after an error: it tells the peer why.
    package func handshake() throws(NetworkError) -> Bool {
        switch ctls_handshake(self.connection) {
        case CInt(ctls_done): return true
        case CInt(ctls_wants_input): return false
        default: throw self.failure(during: "the TLS handshake")
        }
    }

    package func read(into room: UnsafeMutableRawBufferPointer) throws(NetworkError) -> Read {
        guard let base = room.baseAddress, room.count > 0 else { return .count(0) }
        var count = 0
        let result = ctls_read(self.connection, base, room.count, &count)
        if let session = ctls_take_session(self.connection) {
            self.context.keep(TLSContext.Session(session), for: self.host)
        }
        switch result {
        case CInt(ctls_done): return .count(count)
        case CInt(ctls_wants_input): return .wantsInput
        case CInt(ctls_closed): return .closed
        default: throw self.failure(during: "reading")
        }
    }

    /// Encrypts octets into the output, which grows by a little more than their number: the owner sends it before it
    /// writes on.
    package func write(_ octets: UnsafeRawBufferPointer) throws(NetworkError) {
        guard let base = octets.baseAddress, octets.count > 0 else { return }
        guard ctls_write(self.connection, base, octets.count) == CInt(ctls_done) else {
            throw self.failure(during: "writing")
        }
    }

    /// Throws what an alert of the peer says, if one is next among the octets that came; plaintext stays for the reader.
    package func takeAlert() throws(NetworkError) {
        guard try self.handshake() else { return }
        switch ctls_peek(self.connection) {
        case CInt(ctls_done), CInt(ctls_wants_input), CInt(ctls_closed): return
        default: throw self.failure(during: "reading")
        }
    }

    /// Puts the word that nothing more follows into the output.
    package func finish() { ctls_shutdown(self.connection) }
}

// MARK: - What was agreed on

extension TLSEngine {
    package var session: TLSSession {
        var count: UInt32 = 0
        let name = ctls_protocol(self.connection, &count)
        return TLSSession(
            version: String(cString: ctls_version(self.connection)),
            cipher: String(cString: ctls_cipher(self.connection)),
            applicationProtocol: name.map {
                String(decoding: UnsafeBufferPointer(start: $0, count: Int(count)), as: UTF8.self)
            },
            isResumed: ctls_is_resumed(self.connection) == 1,
            peerSubject: self.text(ctls_peer_subject)
        )
    }

    private func text(_ call: (OpaquePointer, UnsafeMutablePointer<CChar>, Int) -> CInt) -> String? {
        var characters = [CChar](repeating: 0, count: 1024)
        guard call(self.connection, &characters, characters.count) == 1 else { return nil }
        return String(decoding: characters.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}

// MARK: - Errors

extension TLSEngine {
    /// Takes this thread's errors; the first says most.
    static func takeError() -> (reason: Int, text: String) {
        var characters = [CChar](repeating: 0, count: 256)
        let error = ctls_error(&characters, characters.count)
        ctls_clear_errors()
        if error == 0 { return (ctls_reason_other, String(cString: strerror(errno))) }
        let text = String(decoding: characters.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
        return (Int(ctls_reason(error)), text)
    }

    private func failure(during what: String) -> NetworkError {
        var (reason, text) = Self.takeError()
        // TLS 1.2 has no word of its own for it.
        if reason == ctls_reason_handshake_failure, ctls_was_asked(self.connection) == 1 {
            reason = ctls_reason_no_client_certificate
        }
        let peer = self.host.isEmpty ? "The peer" : self.host
        let result = ctls_verify_result(self.connection)
        let asked =
            self.context.role == .client
            ? self.context.configuration.serverVerification != .insecureNone
            : self.context.configuration.clientVerification != .none
        if asked, result != 0, reason == ctls_reason_other { return self.refusal(result, peer) }
        switch reason {
        case ctls_reason_not_tls:
            return .tls("\(peer) does not speak TLS on this port.")
        case ctls_reason_truncated:
            let text = "\(peer) ended the connection without the word that TLS demands: octets may be missing."
            return NetworkError(kind: .reset, text: text)
        case ctls_reason_no_client_certificate:
            let isServer = self.context.role == .server
            let text =
                isServer
                ? "The client showed no certificate, and one is required."
                : "\(peer) requires a certificate of this side, and none is set."
            return NetworkError(kind: .certificateRefused, text: text)
        case ctls_reason_refused_certificate:
            return NetworkError(
                kind: .certificateRefused,
                text: "\(peer) does not accept the certificate of this side: \(text)."
            )
        case ctls_reason_versions:
            return .tls("\(peer) and this side have no version of TLS in common.")
        case ctls_reason_no_protocol:
            return .tls("\(peer) and this side have no application protocol (ALPN) in common.")
        default:
            if self.hasInputEnded { return .tls("\(peer) ended the connection during \(what).") }
            return .tls("TLS with \(peer) failed during \(what): \(text).")
        }
    }

    private func refusal(_ result: Int, _ peer: String) -> NetworkError {
        let owner = self.host.isEmpty ? "The client's certificate" : "The certificate of \(self.host)"
        switch result {
        case ctls_verify_expired:
            return NetworkError(kind: .certificateExpired, text: "\(owner) has expired.")
        case ctls_verify_not_yet_valid:
            return NetworkError(
                kind: .certificateNotYetValid,
                text: "\(owner) is not valid yet: is the clock of this host right?"
            )
        case ctls_verify_wrong_host, ctls_verify_wrong_address:
            let names = self.text(ctls_peer_names) ?? "nobody"
            return NetworkError(
                kind: .certificateWrongHost,
                text: "The certificate is for another host: \(self.host) was asked for, it names \(names)."
            )
        default:
            let reason = String(cString: ctls_verify_text(result))
            return NetworkError(kind: .certificateUntrusted, text: "\(owner) is not trusted: \(reason).")
        }
    }
}
