// SPDX-License-Identifier: Apache-2.0
import SystemPackage

// NetworkError: why there is no connection (any more), in words for the person who configured it. SystemError, what one
// system call answered, is its cause.

/// Why a connection could not be made, or a call on one failed.
public struct NetworkError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What went wrong, for a program to tell apart.
    public struct Kind: Hashable, Sendable, CustomStringConvertible {
        /// The name of the kind.
        public let description: String

        /// The host name has no address, or the name service did not answer.
        public static let resolve = Kind(description: "resolve")
        /// The host is there, but nothing listens on the port.
        public static let refused = Kind(description: "refused")
        /// The deadline passed.
        public static let timedOut = Kind(description: "timedOut")
        /// There is no way to the host.
        public static let unreachable = Kind(description: "unreachable")
        /// The task was cancelled, or its event loop ended.
        public static let cancelled = Kind(description: "cancelled")
        /// The peer is gone: it reset the connection, or closed it while there was something to send.
        public static let reset = Kind(description: "reset")
        /// This side closed or finished the connection before.
        public static let closed = Kind(description: "closed")
        /// Another task is reading from the connection: one at a time.
        public static let busy = Kind(description: "busy")
        /// The peer's certificate has expired.
        public static let certificateExpired = Kind(description: "certificateExpired")
        /// The peer's certificate is not valid yet.
        public static let certificateNotYetValid = Kind(description: "certificateNotYetValid")
        /// The peer's certificate is for another host.
        public static let certificateWrongHost = Kind(description: "certificateWrongHost")
        /// The peer's certificate was not issued by anyone who is trusted, or is not good otherwise.
        public static let certificateUntrusted = Kind(description: "certificateUntrusted")
        /// The peer wants a certificate of this side, or does not accept the one it got.
        public static let certificateRefused = Kind(description: "certificateRefused")
        /// The two sides do not agree on TLS, or the settings of TLS cannot be used.
        public static let tls = Kind(description: "tls")
        /// Something else; see the underlying error.
        public static let other = Kind(description: "other")
    }

    /// In one object: every call that can throw has room for an error in its frame, and waiting calls keep their frames.
    private final class Fields: Sendable {
        let kind: Kind
        let underlying: SystemError?
        let text: String
        let leavesConnectionUsable: Bool
        let isAfterPart: Bool

        init(
            _ kind: Kind,
            _ underlying: SystemError?,
            _ text: String,
            _ leavesConnectionUsable: Bool,
            _ isAfterPart: Bool
        ) {
            self.kind = kind
            self.underlying = underlying
            self.text = text
            self.leavesConnectionUsable = leavesConnectionUsable
            self.isAfterPart = isAfterPart
        }
    }

    private let fields: Fields

    /// What went wrong.
    public var kind: Kind { self.fields.kind }

    /// The system call that failed, where one did.
    public var underlying: SystemError? { self.fields.underlying }

    /// A sentence that names the host and port, where they are known.
    public var text: String { self.fields.text }

    /// Whether the connection the call was made on can be used as before.
    ///
    /// True for a wait that timed out or was cancelled without effect.
    public var leavesConnectionUsable: Bool { self.fields.leavesConnectionUsable }

    /// The sentence, and the system call's error.
    public var description: String {
        guard let underlying = self.underlying else { return self.text }
        return "\(self.text) (\(underlying))"
    }

    /// Describes a failure.
    package init(kind: Kind, underlying: SystemError? = nil, text: String, leavesConnectionUsable: Bool = false) {
        self.fields = Fields(kind, underlying, text, leavesConnectionUsable, false)
    }

    /// The same, when a part had been written: what follows would be taken for the rest.
    var afterPart: NetworkError {
        if self.isAfterPart { return self }
        return NetworkError(
            Fields(
                self.kind,
                self.underlying,
                self.text + " A part had been written, so nothing can follow it.",
                false,
                true
            )
        )
    }

    private init(_ fields: Fields) { self.fields = fields }

    /// Whether a write ended in its middle.
    var isAfterPart: Bool { self.fields.isAfterPart }

    /// The same failure in the same words.
    public static func == (left: NetworkError, right: NetworkError) -> Bool {
        left.fields === right.fields
            || left.kind == right.kind && left.underlying == right.underlying && left.text == right.text
                && left.leavesConnectionUsable == right.leavesConnectionUsable
    }

    /// As equality.
    public func hash(into hasher: inout Hasher) {
        hasher.combine(self.kind)
        hasher.combine(self.text)
    }
}

extension NetworkError {
    package static func cancelled(_ target: String) -> NetworkError {
        NetworkError(kind: .cancelled, text: "Connecting to \(target) was cancelled.")
    }

    package static func loopStopped(_ target: String) -> NetworkError {
        NetworkError(kind: .cancelled, text: "Connecting to \(target) was cancelled: the event loop was shut down.")
    }

    /// What the failure of a connect means.
    package init(connecting target: String, _ error: SystemError) {
        switch error.errno {
        case .connectionRefused:
            let reason =
                target.hasPrefix("unix:")
                ? "no process listens on that socket." : "the host answers, but nothing listens on that port."
            self.init(kind: .refused, underlying: error, text: "\(target) refused the connection: \(reason)")
        case .permissionDenied, .notPermitted:
            let text = "Connecting to \(target) is not permitted: check the permissions and the firewall of this host."
            self.init(kind: .other, underlying: error, text: text)
        case .resourceTemporarilyUnavailable:
            let text = "\(target) did not accept the connection in time: its backlog is full."
            self.init(kind: .timedOut, underlying: error, text: text)
        case .noSuchFileOrDirectory:
            self.init(kind: .refused, underlying: error, text: "\(target) does not exist: is the server running?")
        case .noRouteToHost, .networkUnreachable, .networkDown, .hostIsDown:
            let text = "\(target) cannot be reached: check the route and the firewall."
            self.init(kind: .unreachable, underlying: error, text: text)
        case .timedOut:
            let text = "\(target) did not answer: check the address and the firewall."
            self.init(kind: .timedOut, underlying: error, text: text)
        case .tooManyOpenFiles, .tooManyOpenFilesInSystem:
            let text = "No descriptor is left to connect to \(target): raise the limit (ulimit -n)."
            self.init(kind: .other, underlying: error, text: text)
        default:
            self.init(kind: .other, underlying: error, text: "Connecting to \(target) failed.")
        }
    }
}

// MARK: - Of a connection that stood

extension NetworkError {
    package static let closed = NetworkError(kind: .closed, text: "The connection was closed by this side.")
    static let finished = NetworkError(
        kind: .closed,
        text: "Nothing can be written: this side has finished writing, or a write was given up in the middle.",
        leavesConnectionUsable: true
    )
    static let busy = NetworkError(
        kind: .busy,
        text: "Another task is reading from the connection: one at a time.",
        leavesConnectionUsable: true
    )
    static let loopEnded = NetworkError(kind: .cancelled, text: "The event loop of the connection was shut down.")

    static func taskCancelled(_ what: String) -> NetworkError {
        NetworkError(kind: .cancelled, text: "\(what) was cancelled with its task.", leavesConnectionUsable: true)
    }

    static func silent(_ name: String) -> NetworkError {
        let text = "\(Self.subject(name)) brought nothing in time."
        return NetworkError(kind: .timedOut, text: text, leavesConnectionUsable: true)
    }

    static func stalled(_ name: String) -> NetworkError {
        let text = "\(Self.subject(name)) took nothing in time: the peer does not read."
        return NetworkError(kind: .timedOut, text: text, leavesConnectionUsable: true)
    }

    /// The error passed to `onError` of a server while no connection can be accepted.
    static func acceptorExhausted(_ error: SystemError?, turnedAway: Int) -> NetworkError {
        let text =
            turnedAway == 0
            ? "No connection can be accepted: descriptors have run out. Peers wait; raise the limit (ulimit -n)."
            : "\(turnedAway) peers were turned away: descriptors have run out. Raise the limit (ulimit -n)."
        return NetworkError(kind: .other, underlying: error, text: text, leavesConnectionUsable: true)
    }

    static let nobodyConnected = NetworkError(
        kind: .timedOut,
        text: "Nobody connected in time.",
        leavesConnectionUsable: true
    )

    /// The end of a close in order that the peer has cut off.
    static func cutOff(_ name: String) -> NetworkError {
        NetworkError(kind: .reset, text: "\(Self.subject(name)) ended before the peer had all that was written.")
    }

    /// The end of a close in order that took too long.
    static func untaken(_ name: String) -> NetworkError {
        let text = "\(Self.subject(name)) was closed, but the peer did not take all that was written in time."
        return NetworkError(kind: .timedOut, text: text)
    }

    static func closingCancelled(_ name: String) -> NetworkError {
        let text =
            "\(Self.subject(name)) was closed, but the task was cancelled before the peer had all that was written."
        return NetworkError(kind: .cancelled, text: text)
    }

    /// What the failure of a read or write means.
    init(connection name: String, _ error: SystemError) {
        let subject = Self.subject(name)
        switch error.errno {
        case .connectionReset, .brokenPipe, .connectionAbort:
            self.init(kind: .reset, underlying: error, text: "\(subject) was ended by the peer.")
        case .timedOut:
            self.init(kind: .timedOut, underlying: error, text: "\(subject) was given up: the peer does not answer.")
        case .noRouteToHost, .networkUnreachable, .networkDown, .hostIsDown:
            self.init(kind: .unreachable, underlying: error, text: "\(subject) was lost: there is no way to the peer.")
        default:
            self.init(kind: .other, underlying: error, text: "\(subject) failed.")
        }
    }

    private static func subject(_ name: String) -> String {
        name.isEmpty ? "The connection" : "The connection to \(name)"
    }
}
