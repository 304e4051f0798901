// SPDX-License-Identifier: Apache-2.0

// AMQPCallSite: a line of the application's source in an error: module, file name and line, no path. PublishSites and
// ChannelSession record the call sites (CallSite) for errors.

/// A source line that called this library.
public struct AMQPCallSite: Hashable, Sendable {
    /// Module and file, as `#fileID` gives them: "MyService/Orders.swift".
    public let fileID: String
    /// The line, from 1.
    public let line: UInt32

    /// Creates a call site, for tests of code that handles an ``AMQPError``.
    public init(fileID: String, line: UInt32) {
        self.fileID = fileID
        self.line = line
    }

    init(_ site: CallSite) { self.init(fileID: "\(site.fileID)", line: site.line) }
}

extension AMQPCallSite: CustomStringConvertible {
    /// File and line: "MyService/Orders.swift:27".
    public var description: String { "\(self.fileID):\(self.line)" }
}

/// The compact form kept with every message: no allocation, no reference count.
@frozen
@usableFromInline
struct CallSite: Sendable {
    @usableFromInline let fileID: StaticString
    @usableFromInline let line: UInt32

    @inlinable
    init(_ fileID: StaticString, _ line: UInt32) {
        self.fileID = fileID
        self.line = line
    }

    /// Compares the literal and the line.
    @inline(__always)
    func isSame(as other: CallSite) -> Bool {
        self.line == other.line && self.fileID.hasPointerRepresentation && other.fileID.hasPointerRepresentation
            && self.fileID.utf8Start == other.fileID.utf8Start
    }
}
