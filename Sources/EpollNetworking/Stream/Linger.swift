// SPDX-License-Identifier: Apache-2.0
package import EpollConcurrency

// Linger: how long an ended connection waits for its peer. It gives up when nothing has moved for a time, and in any case
// after six times that; after a violation, of which the peer only needs to be told, in any case after once that.
// Pure: `now` is an argument. The loop reads and discards in between, as unread octets would turn the end into a reset.

package struct Linger {
    /// How long without progress.
    private let time: Duration
    /// When to give up: moved on while octets pass.
    private var idleEnd: MonotonicTime
    private let end: MonotonicTime
    /// The next look at what the peer has acknowledged, while somebody waits for it.
    private var nextLook = Duration.milliseconds(2)
    private var undelivered = Int.max

    package init(_ time: Duration, hasFailed: Bool, at now: MonotonicTime) {
        self.time = time
        self.idleEnd = now + time
        self.end = now + time.saturated * (hasFailed ? 1 : 6)
    }

    /// The result of reading and discarding.
    package enum Discarded: Equatable, Sendable {
        case ended
        case failed(SystemError)
        case moved
        case nothing
        /// There is more: continue in the next turn.
        case more
    }

    /// Octets of the peer were discarded.
    package mutating func moved(at now: MonotonicTime) { self.idleEnd = now + self.time }

    /// So many octets, all of them given to the kernel, are not acknowledged; less than before is progress.
    package mutating func remains(_ undelivered: Int, at now: MonotonicTime) {
        if undelivered < self.undelivered, self.undelivered != .max { self.idleEnd = now + self.time }
        self.undelivered = undelivered
    }

    /// When to look again; nil when it is over.
    ///
    /// `isAwaited`: somebody waits for the delivery of everything; the kernel reports that, but nothing about the way there.
    package mutating func next(at now: MonotonicTime, isAwaited: Bool) -> MonotonicTime? {
        let last = min(self.idleEnd, self.end)
        guard now < last else { return nil }
        guard isAwaited else { return last }
        defer { self.nextLook = min(self.nextLook * 2, .milliseconds(250)) }
        return min(last, now + self.nextLook)
    }

    /// Reads what the peer still sends, which nobody wants; a bounded number of times.
    package static func discard(
        into room: UnsafeMutableRawBufferPointer,
        _ read: (UnsafeMutableRawBufferPointer) -> IOResult
    ) -> Discarded {
        var hasMoved = false
        for _ in 0..<16 {
            switch read(room) {
            case .count: hasMoved = true
            case .endOfStream: return .ended
            case .wouldBlock: return hasMoved ? .moved : .nothing
            case .failed(let error): return .failed(error)
            }
        }
        return .more
    }
}
