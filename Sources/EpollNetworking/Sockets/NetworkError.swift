// SPDX-License-Identifier: Apache-2.0
import SystemPackage

// NetworkError: why there is no connection, in words for the person who configured it. SystemError, what one system
// call answered, is its cause.

/// Why a connection could not be made.
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
        /// Something else; see the underlying error.
        public static let other = Kind(description: "other")
    }

    /// What went wrong.
    public let kind: Kind

    /// The system call that failed, where one did.
    public let underlying: SystemError?

    /// A sentence that names the host and port.
    public let text: String

    /// The sentence, and the system call's error.
    public var description: String {
        guard let underlying = self.underlying else { return self.text }
        return "\(self.text) (\(underlying))"
    }

    /// Describes a failure.
    package init(kind: Kind, underlying: SystemError? = nil, text: String) {
        self.kind = kind
        self.underlying = underlying
        self.text = text
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
            let text = "\(target) refused the connection: the host answers, but nothing listens on that port."
            self.init(kind: .refused, underlying: error, text: text)
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
