// SPDX-License-Identifier: Apache-2.0

// AcknowledgementTimeout: parses RabbitMQ's text of a channel.close (406) for a delivery that was not settled in time:
//
//   PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 1800000 ms. This timeout …
//
// Pure: text to values.

/// The close of a channel because a delivery was not settled in time.
package struct AcknowledgementTimeout: Hashable, Sendable {
    /// The broker's limit; nil if the text does not contain it.
    package let milliseconds: UInt64?

    /// Parses the text of a close; nil for any other reason.
    package init?(replyText text: String) {
        guard text.contains("delivery acknowledgement on channel"), text.contains("timed out") else { return nil }
        let number = text.firstRange(of: "Timeout value used: ").map { text[$0.upperBound...].prefix { $0.isNumber } }
        self.milliseconds = number.flatMap { UInt64($0) }
    }
}
