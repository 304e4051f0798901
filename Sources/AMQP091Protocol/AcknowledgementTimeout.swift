// SPDX-License-Identifier: Apache-2.0

// AcknowledgementTimeout: what RabbitMQ says when it closes a channel (406) because a delivery was not settled in time:
//
//   PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 1800000 ms. This timeout …
//
// Pure: text to values.

/// A channel was closed because a delivery was not settled in the broker's time.
package struct AcknowledgementTimeout: Hashable, Sendable {
    /// The broker's limit; nil when its text does not say.
    package let milliseconds: UInt64?

    /// Reads the text of a close; nil when it is about something else.
    package init?(replyText text: String) {
        guard text.contains("delivery acknowledgement on channel"), text.contains("timed out") else { return nil }
        let number = text.firstRange(of: "Timeout value used: ").map { text[$0.upperBound...].prefix { $0.isNumber } }
        self.milliseconds = number.flatMap { UInt64($0) }
    }
}
