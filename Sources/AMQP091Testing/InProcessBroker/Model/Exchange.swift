// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

// BrokerExchange and its bindings. Routing is done by VirtualHost, which follows bindings from
// exchange to exchange.

enum ExchangeKind: String {
    case direct, fanout, topic, headers
    case localRandom = "x-local-random"
    case modulusHash = "x-modulus-hash"
}

final class BrokerExchange {
    let name: String
    let kind: ExchangeKind
    let isDurable: Bool
    let isAutoDelete: Bool
    let isInternal: Bool
    let arguments: FieldTable
    let alternate: String?
    private(set) var bindings: [Binding] = []
    /// Positions in `bindings` by routing key, for direct exchanges.
    private var byKey: [String: [Int]] = [:]

    init(
        name: String,
        kind: ExchangeKind,
        isDurable: Bool = true,
        isAutoDelete: Bool = false,
        isInternal: Bool = false,
        arguments: FieldTable = [:],
        alternate: String? = nil
    ) {
        self.name = name
        self.kind = kind
        self.isDurable = isDurable
        self.isAutoDelete = isAutoDelete
        self.isInternal = isInternal
        self.arguments = arguments
        self.alternate = alternate
    }

    enum Destination {
        case queue(BrokerQueue)
        case exchange(BrokerExchange)

        var object: AnyObject {
            switch self {
            case .queue(let queue): queue
            case .exchange(let exchange): exchange
            }
        }
    }

    struct Binding {
        let destination: Destination
        let routingKey: String
        let arguments: FieldTable
        fileprivate let pattern: TopicPattern?
        fileprivate let match: HeadersMatch?

        func isSame(_ destination: Destination, _ routingKey: String, _ arguments: FieldTable) -> Bool {
            self.destination.object === destination.object && self.routingKey == routingKey
                && self.arguments == arguments
        }
    }

    /// Adds a binding unless it exists.
    func bind(_ destination: Destination, _ routingKey: String, _ arguments: FieldTable) throws(Refusal) {
        let match = self.kind == .headers ? try HeadersMatch(arguments) : nil
        if self.kind == .localRandom, !routingKey.isEmpty {
            throw Refusal(.preconditionFailed, "Non empty binding '\(routingKey)' key not permitted")
        }
        guard !self.bindings.contains(where: { $0.isSame(destination, routingKey, arguments) }) else { return }
        let pattern = self.kind == .topic ? TopicPattern(routingKey) : nil
        self.bindings.append(
            Binding(
                destination: destination,
                routingKey: routingKey,
                arguments: arguments,
                pattern: pattern,
                match: match
            )
        )
        self.byKey[routingKey, default: []].append(self.bindings.count - 1)
    }

    /// Removes the bindings that `body` selects; returns true if there were any.
    func unbind(where body: (Binding) -> Bool) -> Bool {
        let count = self.bindings.count
        self.bindings.removeAll(where: body)
        guard self.bindings.count < count else { return false }
        self.byKey = Dictionary(grouping: self.bindings.indices) { self.bindings[$0].routingKey }
        return true
    }

    /// FNV-1a: the same key reaches the same queue in every run.
    private static func hash(_ text: String) -> UInt64 {
        text.utf8.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
    }

    /// Calls `body` with the destination of every matching binding; one may occur several times.
    func forEachMatch(_ routingKey: String, _ headers: FieldTable, _ body: (Destination) -> Void) {
        switch self.kind {
        case .direct: for index in self.byKey[routingKey] ?? [] { body(self.bindings[index].destination) }
        case .fanout: for binding in self.bindings { body(binding.destination) }
        case .topic:
            let words = TopicPattern.words(routingKey)
            for binding in self.bindings where binding.pattern?.matches(words: words) ?? false {
                body(binding.destination)
            }
        case .headers:
            for binding in self.bindings where binding.match?.matches(headers) ?? false { body(binding.destination) }
        case .localRandom:
            if let binding = self.bindings.randomElement() { body(binding.destination) }
        case .modulusHash:
            guard !self.bindings.isEmpty else { return }
            body(self.bindings[Int(Self.hash(routingKey) % UInt64(self.bindings.count))].destination)
        }
    }
}
