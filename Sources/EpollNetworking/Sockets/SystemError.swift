// SPDX-License-Identifier: Apache-2.0
public import SystemPackage

// SystemError: what a system call answered when it failed. Made by SystemCall; NetworkError says what it meant
// for a connection.

/// The failure of one system call.
public struct SystemError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The number the kernel gave.
    public let errno: Errno

    /// The name of the call, such as `connect`.
    public let call: String

    /// Names a failure of `call`.
    public init(errno: Errno, call: String) {
        self.errno = errno
        self.call = call
    }

    /// The call and the system's words for the error.
    public var description: String { "\(self.call): \(self.errno.description)" }
}
