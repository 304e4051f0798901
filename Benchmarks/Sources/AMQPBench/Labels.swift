// SPDX-License-Identifier: Apache-2.0
import AMQP091

// Labels: KEY=VALUE as typed, as a table of AMQP. Pure.

extension FieldTable {
    /// Values that look like a whole number or like true and false become such; all others are text.
    init(typing values: [String: String]) {
        self.init(values.sorted { $0.key < $1.key }.map { ($0.key, FieldValue(typing: $0.value)) })
    }
}

extension FieldValue {
    /// A value by its looks.
    fileprivate init(typing text: String) {
        switch text {
        case "true": self = .bool(true)
        case "false": self = .bool(false)
        default: self = Int64(text).map { .int64($0) } ?? .string(text)
        }
    }
}
