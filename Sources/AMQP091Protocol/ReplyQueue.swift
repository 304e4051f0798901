// SPDX-License-Identifier: Apache-2.0
package import AMQP091Wire
private import DequeModule

// ReplyQueue: who waits for which -ok method on one channel. Replies come in the order of the requests (§2.2.2), so the
// oldest entry decides what may come next. A waiter that gives up leaves a blank entry, which swallows its late reply.
// Pure: no socket, clock, task or lock; a waiter is any value, resumed by the owner.

/// The replies one channel expects, oldest first.
package struct ReplyQueue<Waiter> {
    /// Names one entry, so that its waiter can be taken back.
    package struct Ticket: Hashable, Sendable { fileprivate let number: UInt64 }

    /// What to do with a reply.
    package enum Action {
        /// It is the waiter's.
        case resume(Waiter)
        /// Its waiter has gone; drop it.
        case swallow
        /// Nobody expects it now.
        case unexpected
    }

    fileprivate struct Entry {
        let expected: MethodID
        let alternative: MethodID?
        var waiter: Waiter?
    }

    private var entries = Deque<Entry>()
    /// The ticket of the oldest entry; later ones count up from it.
    private var first: UInt64 = 0

    package init() {}

    /// Requests whose reply has not come.
    package var count: Int { self.entries.count }
    package var isEmpty: Bool { self.entries.isEmpty }

    /// Registers a request in the step that appends its octets.
    ///
    /// - Parameters:
    ///   - expected: The reply.
    ///   - alternative: The other possible reply, such as `basic.get-empty`.
    ///   - waiter: Who gets it.
    /// - Returns: What `cancel` takes.
    package mutating func append(
        expecting expected: MethodID,
        or alternative: MethodID? = nil,
        waiter: Waiter
    ) -> Ticket {
        self.entries.append(Entry(expected: expected, alternative: alternative, waiter: waiter))
        return Ticket(number: self.first + UInt64(self.entries.count - 1))
    }

    /// Takes a waiter back (cancelled, timed out); its reply is swallowed when it comes.
    ///
    /// - Returns: The waiter, to be resumed with an error; nil when the reply came first.
    package mutating func cancel(_ ticket: Ticket) -> Waiter? {
        guard ticket.number >= self.first, ticket.number - self.first < UInt64(self.entries.count) else { return nil }
        return self.entries[Int(ticket.number - self.first)].waiter.take()
    }

    /// The peer sent a method that may be a reply.
    package mutating func received(_ method: MethodID) -> Action {
        guard let entry = self.entries.first, entry.expected == method || entry.alternative == method else {
            return .unexpected
        }
        self.entries.removeFirst()
        self.first += 1
        guard let waiter = entry.waiter else { return .swallow }
        return .resume(waiter)
    }

    /// Empties the queue: no reply will come any more.
    ///
    /// - Returns: The waiters, oldest first.
    package mutating func removeAll() -> [Waiter] {
        let waiters = self.entries.compactMap(\.waiter)
        self.first += UInt64(self.entries.count)
        self.entries.removeAll()
        return waiters
    }
}

extension ReplyQueue.Action: Sendable where Waiter: Sendable {}
extension ReplyQueue.Action: Equatable where Waiter: Equatable {}
extension ReplyQueue: Sendable where Waiter: Sendable {}
extension ReplyQueue.Entry: Sendable where Waiter: Sendable {}
