// SPDX-License-Identifier: Apache-2.0

// AMQPTopologyReport: the result of declaring or checking a topology, entity by entity.

/// The result for each entity of a topology.
public struct AMQPTopologyReport: Hashable, Sendable, CustomStringConvertible {
    /// The entity of an entry.
    public enum Entity: Hashable, Sendable, CustomStringConvertible {
        /// An exchange of this name.
        case exchange(String)
        /// A queue of this name.
        case queue(String)
        /// A binding.
        case binding(AMQPTopology.Binding)

        /// Such as "queue 'orders'".
        public var description: String {
            switch self {
            case .exchange(let name): return "exchange '\(name)'"
            case .queue(let name): return "queue '\(name)'"
            case .binding(let binding):
                switch binding.target {
                case .queue(let name): return "binding of queue '\(name)' to '\(binding.source)'"
                case .exchange(let name): return "binding of exchange '\(name)' to '\(binding.source)'"
                }
            }
        }
    }

    /// A property that differs from the topology.
    public struct Difference: Hashable, Sendable, CustomStringConvertible {
        /// The argument, such as `x-max-length`, or the property: `durable`, `auto_delete`, `internal`, `type`.
        public let argument: String
        /// The value in the topology, in the broker's text form; nil for none.
        public let wanted: String?
        /// The broker's value, in its text form; nil for none.
        public let actual: String?

        /// Such as "x-max-length is 10, not 20".
        public var description: String {
            "\(self.argument) is \(self.actual ?? "not set"), \(self.wanted.map { "not \($0)" } ?? "and should not be")"
        }
    }

    /// The finding.
    public enum Finding: Hashable, Sendable {
        /// It exists with the topology's properties.
        case matches
        /// It does not exist.
        case missing
        /// It exists with other properties.
        case differs([Difference])
        /// The broker refused, or the connection failed: 403, 405 and others.
        case failed(AMQPError)
        /// It cannot be checked without changing it: bindings.
        case notChecked
    }

    /// An entity and its finding.
    public struct Entry: Hashable, Sendable, CustomStringConvertible {
        /// The entity.
        public let entity: Entity
        /// The finding.
        public let finding: Finding

        /// A description in one sentence.
        public var description: String {
            switch self.finding {
            case .matches: "\(self.entity) matches"
            case .missing: "\(self.entity) is missing"
            case .differs(let differences):
                "\(self.entity) differs: " + differences.map(\.description).joined(separator: "; ")
            case .failed(let error): "\(self.entity): \(error)"
            case .notChecked: "\(self.entity) was not checked"
            }
        }
    }

    /// One entry per entity, in the order of the topology.
    public internal(set) var entries: [Entry] = []

    /// The entries that do not match and were checked.
    public var problems: [Entry] {
        self.entries.filter { $0.finding != .matches && $0.finding != .notChecked }
    }

    /// True if every checked entity matches.
    public var isClean: Bool { self.problems.isEmpty }

    /// One line per entry.
    public var description: String { self.entries.map(\.description).joined(separator: "\n") }

    mutating func add(_ entity: Entity, _ finding: Finding) {
        self.entries.append(Entry(entity: entity, finding: finding))
    }
}
