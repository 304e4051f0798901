// SPDX-License-Identifier: Apache-2.0
import DequeModule

// Broadcast: hands each element to every subscription made before it. A subscription has a buffer of its own from the
// moment it is made, so nothing is lost between that and the first `next()`; one that falls behind loses the oldest.
// For what happens seldom: each element wakes all who wait (ObservedValue).

package final class Broadcast<Element: Sendable>: Sendable {
    private struct State {
        var buffers: [UInt64: Deque<Element>] = [:]
        var latest: Element?
        var next: UInt64 = 0
        var isFinished = false
    }

    private let limit: Int
    /// Whether a subscription begins with the latest element.
    private let repeatsLatest: Bool
    private let state: ObservedValue<State>

    /// - Parameters:
    ///   - limit: Elements one subscription buffers.
    ///   - latest: What a subscription begins with, until another element comes; nil when it begins with what comes next.
    package init(limit: Int, latest: Element? = nil) {
        self.limit = limit
        self.repeatsLatest = latest != nil
        var state = State()
        state.latest = latest
        self.state = ObservedValue(state)
    }

    package func subscribe() -> Subscription {
        let number = self.state.withLock { state in
            state.next += 1
            if !state.isFinished { state.buffers[state.next] = state.latest.map { [$0] } ?? [] }
            return state.next
        }
        return Subscription(self, number)
    }

    package func emit(_ element: Element) {
        self.state.change { state in
            guard !state.isFinished else { return }
            if self.repeatsLatest { state.latest = element }
            for number in state.buffers.keys {
                state.buffers[number]?.append(element)
                if state.buffers[number]?.count ?? 0 > self.limit { state.buffers[number]?.removeFirst() }
            }
        }
    }

    /// No more elements: each subscription ends after what it has buffered.
    package func finish() { self.state.change { $0.isFinished = true } }

    /// One observer's place; ends with its last reference.
    package final class Subscription: Sendable {
        private let hub: Broadcast
        private let number: UInt64

        fileprivate init(_ hub: Broadcast, _ number: UInt64) {
            self.hub = hub
            self.number = number
        }

        deinit { self.hub.state.withLock { _ = $0.buffers.removeValue(forKey: self.number) } }

        /// The next element; nil at the end or when the task is cancelled.
        package func next() async -> Element? {
            let number = self.number
            let found = try? await self.hub.state.waitUntilFound { state -> Element?? in
                if let element = state.buffers[number]?.popFirst() { return .some(.some(element)) }
                return state.isFinished || state.buffers[number] == nil ? .some(.none) : nil
            }
            return found ?? nil
        }
    }

    /// What a sequence holds: a subscription from its own making, for its first iterator, and new ones for others.
    package final class Source: Sendable {
        private let hub: Broadcast
        private let first: ObservedValue<Subscription?>

        package init(_ hub: Broadcast) {
            self.hub = hub
            self.first = ObservedValue(hub.subscribe())
        }

        package func subscription() -> Subscription { self.first.withLock { $0.take() } ?? self.hub.subscribe() }
    }
}
