// SPDX-License-Identifier: Apache-2.0

// ScriptFailure: the client did not do what the script says, with the dialogue up to there.

/// What a script expected and what came, and the dialogue before it.
package struct ScriptFailure: Error, Sendable, CustomStringConvertible {
    /// What the script expected.
    package let expected: String
    /// What came instead.
    package let found: String
    /// Both sides, in order.
    package let dialogue: String

    package var description: String {
        "expected \(self.expected), found \(self.found)\n\(self.dialogue)"
    }
}
