// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import CTLS

// TLSContext: a TLSConfiguration with its files read, and the sessions of a client to resume. Shared by connections.
// Unsafe: `Handle` and `Session` own one C object each, freed with the last reference. OpenSSL's contexts may be used
// by several threads once they are set up, and are not changed afterwards: a reload makes another.

/// TLS settings that were read and checked, for any number of connections.
public final class TLSContext: Sendable {
    /// Which side.
    public enum Role: Hashable, Sendable {
        /// The side that connects.
        case client
        /// The side that listens.
        case server
    }

    final class Handle: @unchecked Sendable {
        let pointer: OpaquePointer
        init(_ pointer: OpaquePointer) { self.pointer = pointer }
        deinit { ctls_context_free(self.pointer) }
    }

    final class Session: @unchecked Sendable {
        let pointer: OpaquePointer
        init(_ pointer: OpaquePointer) { self.pointer = pointer }
        deinit { ctls_session_free(self.pointer) }
    }

    /// Whether this build has TLS: the trait of that name.
    public static var isAvailable: Bool { ctls_is_available() == 1 }

    private struct State {
        var handle: Handle
        /// By host; the newest of each, oldest host first.
        var sessions: [(host: String, session: Session)] = []
    }

    /// Hosts whose sessions are kept.
    private static let sessionLimit = 64

    /// Which side.
    public let role: Role
    /// The settings.
    public let configuration: TLSConfiguration
    private let state: Locked<State>

    /// Reads the files the settings name.
    ///
    /// - Throws: ``NetworkError`` of kind `.tls` that names the file and what is wrong with it.
    public init(_ configuration: TLSConfiguration, role: Role) throws(NetworkError) {
        self.role = role
        self.configuration = configuration
        self.state = Locked(State(handle: try Self.load(configuration, role)))
    }

    /// Reads the files again, for connections made from now on; those that stand are not touched.
    ///
    /// - Throws: ``NetworkError`` of kind `.tls`; what was read before stays in use.
    public func reload() throws(NetworkError) {
        let handle = try Self.load(self.configuration, self.role)
        self.state.withLock { state in
            state.handle = handle
            state.sessions = []
        }
    }

    var handle: Handle { self.state.withLock { $0.handle } }

    func session(for host: String) -> Session? {
        self.state.withLock { $0.sessions.last { $0.host == host }?.session }
    }

    func keep(_ session: Session, for host: String) {
        guard self.configuration.resumesSessions else { return }
        self.state.withLock { state in
            state.sessions.removeAll { $0.host == host }
            if state.sessions.count >= Self.sessionLimit { state.sessions.removeFirst() }
            state.sessions.append((host, session))
        }
    }
}

extension TLSContext {
    private static func load(_ configuration: TLSConfiguration, _ role: Role) throws(NetworkError) -> Handle {
        guard Self.isAvailable else {
            throw .tls("TLS is not compiled in: enable the trait TLS of swift-amqp091 and install libssl-dev.")
        }
        ctls_clear_errors()
        guard let pointer = ctls_context_new(role == .server ? 1 : 0) else {
            throw .tls("There is no memory for TLS.")
        }
        let handle = Handle(pointer)
        guard configuration.minimumVersion <= configuration.maximumVersion else {
            throw .tls("The oldest version of TLS allowed is newer than the newest.")
        }
        try check(
            ctls_context_versions(
                pointer,
                CInt(configuration.minimumVersion.rawValue),
                CInt(configuration.maximumVersion.rawValue)
            ),
            "The versions of TLS cannot be set"
        )
        try Self.loadRoots(configuration, role, pointer)
        try Self.loadIdentity(configuration, role, pointer)
        switch role {
        case .client:
            ctls_context_verify(pointer, configuration.serverVerification == .insecureNone ? 0 : 1, 0)
        case .server:
            let verification = configuration.clientVerification
            ctls_context_verify(pointer, verification == .none ? 0 : 1, verification == .required ? 1 : 0)
        }
        if !configuration.applicationProtocols.isEmpty {
            var list: [UInt8] = []
            for name in configuration.applicationProtocols {
                guard (1...255).contains(name.utf8.count) else {
                    throw .tls("A protocol's name has 1 to 255 octets: '\(name)' has not.")
                }
                list.append(UInt8(name.utf8.count))
                list.append(contentsOf: name.utf8)
            }
            try check(ctls_context_protocols(pointer, list, list.count), "The protocols cannot be set")
        }
        if let file = configuration.keyLogFile {
            try check(ctls_context_key_log(pointer, file), "The key log '\(file)' cannot be written")
        }
        ctls_context_resumption(pointer, configuration.resumesSessions ? 1 : 0)
        return handle
    }

    private static func loadRoots(
        _ configuration: TLSConfiguration,
        _ role: Role,
        _ pointer: OpaquePointer
    ) throws(NetworkError) {
        if role == .client, configuration.serverVerification == .insecureNone { return }
        if role == .server, configuration.clientVerification == .none { return }
        switch configuration.roots {
        case .system:
            try check(ctls_context_system_roots(pointer), "The system's trusted certificates cannot be read")
        case .file(let path):
            try check(
                ctls_context_roots(pointer, path, nil),
                "The trusted certificates in '\(path)' cannot be read"
            )
            if role == .server {
                try check(ctls_context_client_roots(pointer, path), "The names in '\(path)' cannot be read")
            }
        case .directory(let path):
            try check(
                ctls_context_roots(pointer, nil, path),
                "The trusted certificates in '\(path)' cannot be read"
            )
        }
    }

    private static func loadIdentity(
        _ configuration: TLSConfiguration,
        _ role: Role,
        _ pointer: OpaquePointer
    ) throws(NetworkError) {
        guard let chain = configuration.certificateChain else {
            if role == .server { throw .tls("A server needs a certificate: set certificateChain and privateKey.") }
            if configuration.privateKey != nil { throw .tls("There is a private key, but no certificate for it.") }
            return
        }
        try check(ctls_context_chain(pointer, chain), "The certificate in '\(chain)' cannot be used")
        let key = configuration.privateKey ?? chain
        try check(
            ctls_context_key(pointer, key, configuration.privateKeyPassword),
            "The private key in '\(key)' cannot be used"
        )
    }

    private static func check(_ result: CInt, _ what: String) throws(NetworkError) {
        if result == 1 { return }
        let (_, text) = TLSEngine.takeError()
        if result == -1 { throw .tls("\(what): its password is missing or wrong.") }
        throw .tls("\(what): \(text).")
    }
}

extension NetworkError {
    static func tls(_ text: String, leavesConnectionUsable: Bool = false) -> NetworkError {
        NetworkError(kind: .tls, text: text, leavesConnectionUsable: leavesConnectionUsable)
    }
}
