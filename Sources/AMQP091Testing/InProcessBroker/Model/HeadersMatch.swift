// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

// HeadersMatch: the binding arguments of a headers exchange. x-match is all (default) or any, and with the suffix
// "-with-x" names that begin with "x-" are compared, too. A void value requires only that the header exists.

struct HeadersMatch {
    private enum Mode: String {
        case all = "all"
        case any = "any"
        case allWithX = "all-with-x"
        case anyWithX = "any-with-x"
    }

    private let mode: Mode
    private let fields: [(name: String, value: FieldValue)]

    init(_ arguments: FieldTable) throws(Refusal) {
        var mode = Mode.all
        if let match = arguments["x-match"] {
            guard let text = match.stringValue else {
                throw Refusal(
                    .preconditionFailed,
                    "Invalid x-match field type \(match.typeName); expected longstr"
                )
            }
            guard let known = Mode(rawValue: text) else {
                throw Refusal(
                    .preconditionFailed,
                    "Invalid x-match field value <<\"\(text)\">>; expected all, any, all-with-x, or any-with-x"
                )
            }
            mode = known
        }
        self.mode = mode
        let withX = mode == .allWithX || mode == .anyWithX
        self.fields = arguments.filter { $0.name != "x-match" && (withX || !$0.name.hasPrefix("x-")) }
    }

    func matches(_ headers: FieldTable) -> Bool {
        func holds(_ field: (name: String, value: FieldValue)) -> Bool {
            guard let value = headers[field.name] else { return false }
            return field.value == .void || field.value.isEquivalent(to: value)
        }
        switch self.mode {
        case .all, .allWithX: return self.fields.allSatisfy(holds)
        case .any, .anyWithX: return self.fields.contains(where: holds)
        }
    }
}
