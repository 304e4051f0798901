// SPDX-License-Identifier: Apache-2.0

// ScriptFailure: the peer deviated from the script; with the dialogue so far.

/// A deviation from the script.
package struct ScriptFailure: Error, Sendable, CustomStringConvertible {
    /// The expectation of the script.
    package let expected: String
    /// The actual event.
    package let found: String
    /// The dialogue so far.
    package let dialogue: String

    package var description: String {
        "expected \(self.expected), found \(self.found)\n\(self.dialogue)"
    }
}
