// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire

// Declarable: an entity of a topology, its declaring method, and the adoption of a broker's value.

protocol Declarable: Sendable {
    /// Its name in reports and errors.
    var entity: AMQPTopologyReport.Entity { get }

    /// The request that declares it.
    func declaration() throws(AMQPError) -> any Request

    /// Adopts the broker's value of a differing property; returns false if the text does not contain it.
    mutating func takeOver(_ difference: InequivalentArgument) -> Bool
}

extension AMQPTopology.Exchange: Declarable {
    var entity: AMQPTopologyReport.Entity { .exchange(self.name) }

    func declaration() throws(AMQPError) -> any Request {
        AMQP091Wire.Exchange.Declare(
            exchange: self.name,
            type: self.type.name,
            durable: self.isDurable,
            autoDelete: self.isAutoDelete,
            internal: self.isInternal,
            arguments: self.arguments
        )
    }

    mutating func takeOver(_ difference: InequivalentArgument) -> Bool {
        guard case .property(let value) = difference.current else { return self.arguments.takeOver(difference) }
        switch difference.name {
        case "type": self.type = AMQPExchangeType(stringLiteral: value)
        case "durable": self.isDurable = value == "true"
        case "auto_delete": self.isAutoDelete = value == "true"
        case "internal": self.isInternal = value == "true"
        default: return false
        }
        return true
    }
}

extension AMQPTopology.Queue: Declarable {
    var entity: AMQPTopologyReport.Entity { .queue(self.name) }

    func declaration() throws(AMQPError) -> any Request {
        if let problem = self.problem { throw problem }
        return AMQP091Wire.Queue.Declare(
            queue: self.name,
            durable: self.isDurable,
            exclusive: self.isExclusive,
            autoDelete: self.isAutoDelete,
            arguments: self.arguments
        )
    }

    mutating func takeOver(_ difference: InequivalentArgument) -> Bool {
        guard case .property(let value) = difference.current else { return self.arguments.takeOver(difference) }
        switch difference.name {
        case "durable": self.isDurable = value == "true"
        case "exclusive": self.isExclusive = value == "true"
        case "auto_delete": self.isAutoDelete = value == "true"
        default: return false
        }
        return true
    }
}

extension AMQPTopology.Binding: Declarable {
    var entity: AMQPTopologyReport.Entity { .binding(self) }

    func declaration() throws(AMQPError) -> any Request {
        switch self.target {
        case .queue(let queue):
            return AMQP091Wire.Queue.Bind(
                queue: queue,
                exchange: self.source,
                routingKey: self.routingKey,
                arguments: self.arguments
            )
        case .exchange(let exchange):
            return AMQP091Wire.Exchange.Bind(
                destination: exchange,
                source: self.source,
                routingKey: self.routingKey,
                arguments: self.arguments
            )
        }
    }

    mutating func takeOver(_ difference: InequivalentArgument) -> Bool { false }
}

extension FieldTable {
    fileprivate mutating func takeOver(_ difference: InequivalentArgument) -> Bool {
        switch difference.current {
        case .none:
            self[difference.name] = nil
            return true
        case .property, .unknown:
            return false
        case .argument(let text, let type):
            switch type {
            case "bool": self[difference.name] = .bool(text == "true")
            case "longstr": self[difference.name] = .string(text)
            default:
                guard let number = Int64(text) else { return false }
                self[difference.name] = .int64(number)
            }
            return true
        }
    }
}
