// SPDX-License-Identifier: Apache-2.0
// ReadReadiness: whether a read of an edge-triggered descriptor may find something. The one place that judges a short
// read: it has emptied the socket, unless reads stop at a mark (urgent data of TCP, a message of a Unix socket that carries
// descriptors) or the peer has ended, which is reported once.
// Pure: no descriptor, lock or waiter. ConnectionFlow holds one for StreamConnection, StreamEngine one for its owner.
//
//   event -> readable -> begin() -> [read] -> ended(_:) -> readable, or wait for an event

package struct ReadReadiness {
    /// Whether a read may find something: cleared by a read that emptied the socket, set by the loop.
    package private(set) var isReadable = true
    /// The peer is gone or done: every read returns a result, and no further event comes.
    package private(set) var isOver = false
    /// The peer has sent urgent data.
    private var hasMarks = false

    package init() {}

    /// An event of the loop; true when it is worth a read.
    package mutating func received(_ events: ReadyEvents) -> Bool {
        if events.has(.ending) { self.isOver = true }
        if events.has(.urgent) { self.hasMarks = true }
        guard events.has(.worthReading) else { return false }
        self.isReadable = true
        return true
    }

    /// Nothing can be sent any more: what the peer has sent is read to its end.
    package mutating func writingFailed() {
        self.isOver = true
        self.isReadable = true
    }

    /// Before a read: an event during it must not be lost.
    package mutating func begin() { self.isReadable = self.isOver }

    /// The effect of a read on the socket.
    package enum Effect: Equatable, Sendable {
        /// The room was not filled.
        case short
        /// The room was filled, or the read stopped at a mark.
        case more
        /// Would-block: there is nothing.
        case empty
        /// The peer has finished.
        case ended

        /// The effect of a read into `room` octets; `isCut` if it stopped at a mark.
        package init(_ result: IOResult, room: Int, isCut: Bool) {
            switch result {
            case .count(let count): self = count == room || isCut ? .more : .short
            case .endOfStream: self = .ended
            case .wouldBlock: self = .empty
            case .failed: self = .more
            }
        }
    }

    /// After a read.
    package mutating func ended(_ effect: Effect) {
        switch effect {
        case .short: if self.hasMarks { self.isReadable = true }
        // The end of a stream can be read again.
        case .more, .ended: self.isReadable = true
        case .empty: break
        }
    }
}
