// SPDX-License-Identifier: Apache-2.0
package import AMQP091Wire

// RequestQueue: which request of one channel may be sent now, and which request a reply belongs to.
// Pure: no socket, clock, task or lock. The owner writes the octets of what it is told to send.
//
// Requests are served in turn: one is sent when the one before it was answered. Any task may use a channel at any time, and
// RabbitMQ handles the requests of a channel one after the other anyway, so a second request on the wire would gain no
// more than a round trip; and when a request is refused, the channel closes under those behind it: not sent, they are
// safe to repeat. Two kinds differ:
//   - basic.consume and basic.cancel are answered by the queue's process, at any time and in any order, and name the
//     consumer tag. They wait for no other request and no other request waits for them; requests for one tag are served
//     in turn, because RabbitMQ 3.10 crashes (541) on a cancel that comes before its consumer's consume-ok.
//   - tx.commit: RabbitMQ closes the connection (504) on any method that comes before commit-ok. Nothing is sent
//     beside it.
// A request whose caller gave up is withdrawn when it was not sent. Otherwise it stays until its reply has come.

/// The requests of one channel that were not answered.
package struct RequestQueue<Waiter, Context> {
    /// How a request is answered.
    package enum Kind: Hashable, Sendable {
        /// In the order of requests.
        case ordered(reply: MethodID, or: MethodID? = nil)
        /// With nothing else beside it.
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
        /// What the owner needs to send it and to act on its reply.
        package let context: Context
    }

    /// Requests whose replies will not come any more.
    package struct Unanswered {
        package var sent: [Request] = []
        /// Nothing was written of these.
        package var waiting: [Request] = []
    }

    package typealias Ticket = WaitingLine<Request>.Ticket

    /// The request that was sent and is answered in order, or alone.
    private var current: Request?
    /// Those sent that are answered for a consumer tag.
    private var tagged: [String: Request] = [:]
    private var waiting = WaitingLine<Request>()

    package init() {}

    /// Whether nothing is waiting or sent.
    package var isEmpty: Bool { self.current == nil && self.tagged.isEmpty && self.waiting.isEmpty }

    /// Whether a request with nothing beside it was sent.
    package var isExclusive: Bool {
        if case .exclusive? = self.current?.kind { true } else { false }
    }

    /// Whether `basic.cancel` was sent for this consumer tag and not answered.
    package func isCancelling(_ tag: String) -> Bool {
        if case .cancel? = self.tagged[tag]?.kind { true } else { false }
    }

    /// Whether a request can be sent at once.
    ///
    /// What waits ahead of it waits for `current` or for the request of the same tag.
    package func maySend(_ kind: Kind) -> Bool {
        guard !self.isExclusive else { return false }
        guard let tag = kind.consumerTag else { return self.current == nil }
        return self.tagged[tag] == nil
    }

    /// The owner sends a request now, which `maySend` allows.
    package mutating func send(_ kind: Kind, waiter: Waiter?, context: Context) {
        self.place(Request(kind: kind, waiter: waiter, context: context))
    }

    /// A request waits for its turn.
    ///
    /// - Returns: What `withdraw` takes.
    package mutating func wait(_ kind: Kind, waiter: Waiter?, context: Context) -> Ticket {
        self.waiting.append(Request(kind: kind, waiter: waiter, context: context))
    }

    /// The caller of a waiting request gives up.
    ///
    /// - Returns: The request, of which nothing was written; nil when it was sent.
    package mutating func withdraw(_ ticket: Ticket) -> Request? { self.waiting.remove(ticket) }

    /// Takes the next request whose turn has come.
    ///
    /// - Parameter isGone: Whether a caller has given up and is about to withdraw its request.
    /// - Returns: The request, to be sent, or dropped with `drop`; nil when none may be sent.
    package mutating func next(isGone: (Waiter) -> Bool) -> Request? {
        guard !self.waiting.isEmpty, !self.isExclusive else { return nil }
        // A request that waits stands in the way of those of its kind behind it.
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

    /// The owner did not send what `next` returned.
    package mutating func drop(_ request: Request) {
        if let tag = request.kind.consumerTag { self.tagged[tag] = nil } else { self.current = nil }
    }

    /// The peer sent a method that may be a reply.
    ///
    /// - Returns: The request it answers; nil when no request has this answer now.
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

    /// The channel is being closed: what waits will not be sent.
    package mutating func takeWaiting() -> [Request] { self.waiting.removeAll() }

    /// No reply will come any more.
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
