// SPDX-License-Identifier: Apache-2.0
import AMQP091
import ArgumentParser

// Destinations: where each message of a producer goes: to one routing key, or to several in turn, at random or as in a Zipf
// distribution. The choices are made before the run, so that a message costs a look into a table. Pure.

/// How the messages are spread over several routing keys.
enum KeyDistribution: String, ExpressibleByArgument, CaseIterable, Codable, Sendable {
    /// One key after the other.
    case turns
    /// Every key as often as any other, in no order.
    case random
    /// The first key most often: key n is 1/n as frequent as the first.
    case zipf
}

/// The destinations of one producer.
struct Destinations: Sendable {
    /// Choices that are made before the run; they repeat.
    private static let choices = 1 << 14

    private let all: [AMQPDestination]
    /// Which of them each message goes to, by its number; empty for a single one.
    private let order: [UInt16]

    /// The keys of a producer.
    ///
    /// - Parameters:
    ///   - exchange: The exchange; empty for the default one.
    ///   - keys: At least one, at most 65 535.
    ///   - distribution: How messages are spread over them.
    ///   - seed: Producers of different seeds choose differently.
    init(exchange: String, keys: [String], distribution: KeyDistribution, seed: UInt64) {
        self.all = keys.map { exchange.isEmpty ? .queue($0) : .exchange(exchange, routingKey: $0) }
        self.order = keys.count < 2 ? [] : Self.order(keys.count, distribution, seed: seed)
    }

    /// Where a message goes.
    subscript(sequence: UInt64) -> AMQPDestination {
        if self.order.isEmpty { return self.all[0] }
        return self.all[Int(self.order[Int(sequence % UInt64(self.order.count))])]
    }

    private static func order(_ count: Int, _ distribution: KeyDistribution, seed: UInt64) -> [UInt16] {
        var generator = SplitMix(seed: seed)
        switch distribution {
        case .turns: return (0..<count).map { UInt16($0) }
        case .random: return (0..<Self.choices).map { _ in UInt16.random(in: 0..<UInt16(count), using: &generator) }
        case .zipf:
            var sums: [Double] = []
            for number in 1...count { sums.append((sums.last ?? 0) + 1 / Double(number)) }
            return (0..<Self.choices).map { _ in
                let place = Double.random(in: 0..<sums[count - 1], using: &generator)
                return UInt16(min(sums.partitioningIndex { $0 > place }, count - 1))
            }
        }
    }
}

extension [Double] {
    /// The first index for which a condition holds that holds for all behind it.
    fileprivate func partitioningIndex(where condition: (Double) -> Bool) -> Int {
        var (low, high) = (0, self.count)
        while low < high {
            let middle = (low + high) / 2
            if condition(self[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
