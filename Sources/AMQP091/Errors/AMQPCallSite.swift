// SPDX-License-Identifier: Apache-2.0

// AMQPCallSite: a place in the application's source, as an error tells it. No path of a machine is in it: only the
// module, the file's name and the line. PublishSites and ChannelSession keep the places (CallSite) an error is made from.

/// A line of source that called this library.
public struct AMQPCallSite: Hashable, Sendable {
    /// Module and file, as `#fileID` gives them: "MyService/Orders.swift".
    public let fileID: String
    /// The line, from 1.
    public let line: UInt32

    /// A file and a line; for tests of code that handles an ``AMQPError``.
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

/// The same as it is kept with every message: nothing to allocate, nothing to count.
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

    /// Whether both are the same literal on the same line.
    @inline(__always)
    func isSame(as other: CallSite) -> Bool {
        self.line == other.line && self.fileID.hasPointerRepresentation && other.fileID.hasPointerRepresentation
            && self.fileID.utf8Start == other.fileID.utf8Start
    }
}
