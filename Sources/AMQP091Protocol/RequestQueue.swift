// SPDX-License-Identifier: Apache-2.0
package import AMQP091Wire

// RequestQueue: decides which request of one channel may be sent, and which request a reply belongs to.
// Pure: no socket, clock, task or lock. The owner writes the octets of the requests it is given.
//
// Requests are sent in turn, each after the reply to the one before. Any task may use a channel at any time, and
// RabbitMQ handles the requests of a channel one after the other anyway, so pipelining would gain at
// most a round trip. If a request is refused, the channel is closed, and the requests that wait were not sent, so they are
// safe to repeat. Two kinds differ:
//   - basic.consume and basic.cancel are answered by the queue's process, at any time and in any order, with the
//     consumer tag. They wait for no other request and no other request waits for them; requests for one tag are sent
//     in turn, because RabbitMQ 3.10 crashes (541) on a cancel that comes before its consumer's consume-ok.
//   - tx.commit: RabbitMQ closes the connection (504) on any method that comes before commit-ok. Nothing else
//     is sent meanwhile.
// A request whose caller gave up is withdrawn if it was not sent. Otherwise it stays until its reply arrives.

/// The unanswered requests of one channel.
package struct RequestQueue<Waiter, Context> {
    /// The way a request is answered.
    package enum Kind: Hashable, Sendable {
        /// In the order of requests.
        case ordered(reply: MethodID, or: MethodID? = nil)
        /// Exclusively: nothing else is sent meanwhile.
        case exclusive(reply: MethodID)
        /// With `basic.consume-ok` for this consumer tag.
        case consume(tag: String)
        /// With `basic.cancel-ok` for this consumer tag.
        case cancel(tag: String)

        fileprivate var consumerTag: String? {
            switch self {
            case .ordered, .exclusive: nil
            case .consume(let tag), .cancel(let tag): tag
            }
        }
    }

    /// One request.
    package struct Request {
        package let kind: Kind
        /// The caller; nil for a request of the owner itself.
        package let waiter: Waiter?
        /// The owner's data to send it and to handle its reply.
        package let context: Context
    }

    /// Requests whose replies will not arrive.
    package struct Unanswered {
        package var sent: [Request] = []
        /// Requests of which nothing was written.
        package var waiting: [Request] = []
    }

    package typealias Ticket = WaitingLine<Request>.Ticket

    /// The sent request that is answered in order or exclusively.
    private var current: Request?
    /// Sent requests that are answered by consumer tag.
    private var tagged: [String: Request] = [:]
    private var waiting = WaitingLine<Request>()

    package init() {}

    /// True if no request waits or is sent.
    package var isEmpty: Bool { self.current == nil && self.tagged.isEmpty && self.waiting.isEmpty }

    /// True if an exclusive request was sent.
    package var isExclusive: Bool {
        if case .exclusive? = self.current?.kind { true } else { false }
    }

    /// Returns true if `basic.cancel` for this consumer tag was sent and not answered.
    package func isCancelling(_ tag: String) -> Bool {
        if case .cancel? = self.tagged[tag]?.kind { true } else { false }
    }

    /// Returns true if a request can be sent at once.
    ///
    /// Requests ahead of it wait for `current` or for the request of the same tag.
    package func maySend(_ kind: Kind) -> Bool {
        guard !self.isExclusive else { return false }
        guard let tag = kind.consumerTag else { return self.current == nil }
        return self.tagged[tag] == nil
    }

    /// Records that a request, allowed by `maySend`, is sent now.
    package mutating func send(_ kind: Kind, waiter: Waiter?, context: Context) {
        self.place(Request(kind: kind, waiter: waiter, context: context))
    }

    /// Queues a request.
    ///
    /// - Returns: The ticket for `withdraw`.
    package mutating func wait(_ kind: Kind, waiter: Waiter?, context: Context) -> Ticket {
        self.waiting.append(Request(kind: kind, waiter: waiter, context: context))
    }

    /// Withdraws a waiting request whose caller gave up.
    ///
    /// - Returns: The request, of which nothing was written; nil if it was sent.
    package mutating func withdraw(_ ticket: Ticket) -> Request? { self.waiting.remove(ticket) }

    /// Removes and returns the next request that may be sent.
    ///
    /// - Parameter isGone: Returns true if a caller has given up and is about to withdraw its request.
    /// - Returns: The request to send, or to drop with `drop`; nil if none may be sent.
    package mutating func next(isGone: (Waiter) -> Bool) -> Request? {
        guard !self.waiting.isEmpty, !self.isExclusive else { return nil }
        // A waiting request blocks later ones of its kind.
        var isOrderedBlocked = self.current != nil
        var blockedTags = Set(self.tagged.keys)
        let request = self.waiting.removeFirst { request in
            if let waiter = request.waiter, isGone(waiter) { return false }
            if let tag = request.kind.consumerTag { return blockedTags.insert(tag).inserted }
            defer { isOrderedBlocked = true }
            return !isOrderedBlocked
        }
        if let request { self.place(request) }
        return request
    }

    /// Records that the request from `next` was not sent.
    package mutating func drop(_ request: Request) {
        if let tag = request.kind.consumerTag { self.tagged[tag] = nil } else { self.current = nil }
    }

    /// Handles a method that may be a reply.
    ///
    /// - Returns: The request it answers; nil if it answers none.
    package mutating func received(_ method: Method) -> Request? {
        switch method {
        case .basicConsumeOk(let ok): return self.take(.consume(tag: ok.consumerTag), ok.consumerTag)
        case .basicCancelOk(let ok): return self.take(.cancel(tag: ok.consumerTag), ok.consumerTag)
        default: break
        }
        switch self.current?.kind {
        case .ordered(method.id, _)?, .ordered(_, method.id)?, .exclusive(method.id)?: return self.current.take()
        default: return nil
        }
    }

    private mutating func take(_ kind: Kind, _ tag: String) -> Request? {
        guard self.tagged[tag]?.kind == kind else { return nil }
        return self.tagged.removeValue(forKey: tag)
    }

    private mutating func place(_ request: Request) {
        if let tag = request.kind.consumerTag { self.tagged[tag] = request } else { self.current = request }
    }

    /// Removes and returns the waiting requests of a channel that is being closed.
    package mutating func takeWaiting() -> [Request] { self.waiting.removeAll() }

    /// Removes and returns all requests: no reply will arrive.
    package mutating func removeAll() -> Unanswered {
        var sent = self.tagged.keys.sorted().compactMap { self.tagged[$0] }
        if let current = self.current.take() { sent.insert(current, at: 0) }
        self.tagged = [:]
        return Unanswered(sent: sent, waiting: self.takeWaiting())
    }
}

extension RequestQueue: Sendable where Waiter: Sendable, Context: Sendable {}
extension RequestQueue.Request: Sendable where Waiter: Sendable, Context: Sendable {}
extension RequestQueue.Request: Equatable where Waiter: Equatable, Context: Equatable {}
extension RequestQueue.Unanswered: Sendable where Waiter: Sendable, Context: Sendable {}
extension RequestQueue.Unanswered: Equatable where Waiter: Equatable, Context: Equatable {}
