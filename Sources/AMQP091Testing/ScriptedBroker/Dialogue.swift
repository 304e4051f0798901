// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

// Dialogue: the methods of both sides of a ScriptedBroker, in order, for the text of a failure.
// Keeps the last lines only. Bodies are shown by size, credentials not at all.

struct Dialogue: Sendable {
    private static let limit = 200

    private var lines: [String] = []
    private var dropped = 0

    mutating func client(_ text: String) { self.add("client -> \(text)") }
    mutating func broker(_ text: String) { self.add("broker <- \(text)") }

    private mutating func add(_ line: String) {
        if self.lines.count == Self.limit {
            self.lines.removeFirst()
            self.dropped += 1
        }
        self.lines.append(line)
    }

    var text: String {
        let head = self.dropped > 0 ? ["  (\(self.dropped) lines before)"] : []
        return (head + self.lines.map { "  \($0)" }).joined(separator: "\n")
    }
}

extension Method {
    /// The name of a method, and its arguments that are not empty, false or zero.
    var dialogueText: String {
        let name = self.id.name ?? "\(self.id)"
        guard let arguments = Mirror(reflecting: self).children.first?.value else { return name }
        if arguments is Connection.StartOk || arguments is Connection.SecureOk || arguments is Connection.UpdateSecret {
            return "\(name)(credentials)"
        }
        let shown = Mirror(reflecting: arguments).children.compactMap { label, value -> String? in
            let text: String
            switch value {
            case let value as String where !value.isEmpty: text = "\"\(value)\""
            case let value as Bool where value: text = "true"
            case let value as FieldTable where value.underestimatedCount > 0: text = "\(value)"
            case let value as [UInt8] where !value.isEmpty: text = "\(value.count) octets"
            case is String, is Bool, is FieldTable, is [UInt8]: return nil
            default: text = "\(value)"
            }
            return "\(label ?? "_"): \(text)"
        }
        return "\(name)(\(shown.joined(separator: ", ")))"
    }
}
