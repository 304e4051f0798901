// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

// Faults of methods: MethodOrders holds them, and BrokerConnection applies them when such a method arrives.

/// Faults of the next methods of a kind, each applied once.
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
    /// Performs a method with its fault.
    func obey(_ method: Method, on number: UInt16) {
        guard !self.core.methodOrders.isEmpty, let order = self.core.methodOrders.next(for: method.id) else {
            return self.perform(method, on: number)
        }
        switch order {
        case .delay(let duration): self.stall(for: duration) { self.perform(method, on: number) }
        case .refuse(let code, let reason):
            self.refuse(Refusal(code, reason), method.id, number)
            // A close that crosses the broker's close is answered, too.
            if [.channelClose, .connectionClose].contains(method.id) { self.perform(method, on: number) }
        case .drop(.before): self.reset()
        case .loseAnswer, .drop:
            if method.hasContent, let channel = self.channels[number] {
                // The reply is incomplete before its last octet.
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

    /// Runs `body`, and applies the fault to its reply.
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
