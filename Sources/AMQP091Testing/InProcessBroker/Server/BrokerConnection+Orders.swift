// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

// What tests ordered about methods: MethodOrders holds it, and BrokerConnection obeys when such a method comes.

/// Orders about the next methods of a kind, each obeyed once.
struct MethodOrders {
    private var orders: [(method: MethodID, order: InProcessBroker.MethodOrder)] = []

    var isEmpty: Bool { self.orders.isEmpty }

    mutating func append(_ order: InProcessBroker.MethodOrder, for method: MethodID) {
        self.orders.append((method, order))
    }

    mutating func removeAll() { self.orders = [] }

    mutating func next(for method: MethodID) -> InProcessBroker.MethodOrder? {
        guard let index = self.orders.firstIndex(where: { $0.method == method }) else { return nil }
        return self.orders.remove(at: index).order
    }
}

extension BrokerConnection {
    /// Does what a method says, and what was ordered about it.
    func obey(_ method: Method, on number: UInt16) {
        guard !self.core.methodOrders.isEmpty, let order = self.core.methodOrders.next(for: method.id) else {
            return self.perform(method, on: number)
        }
        switch order {
        case .delay(let duration): self.stall(for: duration) { self.perform(method, on: number) }
        case .refuse(let code, let reason):
            self.refuse(Refusal(code, reason), method.id, number)
            // A close that crosses ours is answered all the same.
            if [.channelClose, .connectionClose].contains(method.id) { self.perform(method, on: number) }
        case .drop(.before): self.reset()
        case .loseAnswer, .drop:
            if method.hasContent, let channel = self.channels[number] {
                // It is not whole before its last octet.
                channel.contentOrder = order
                self.perform(method, on: number)
            } else {
                self.obey(order) {
                    self.perform(method, on: number)
                    self.channels[number]?.passOnMail(all: true)
                    self.channels[number]?.finishCommit()
                }
            }
        }
    }

    /// Answers by `body`, and spoils the answer.
    func obey(_ order: InProcessBroker.MethodOrder, _ body: () -> Void) {
        let count = self.out.count
        body()
        switch order {
        case .loseAnswer: self.withholdAnswer(since: count)
        case .drop(.during): self.drop(keeping: { $0 / 2 }, since: count)
        case .drop: self.drop(keeping: { $0 }, since: count)
        case .delay, .refuse: break
        }
    }
}
