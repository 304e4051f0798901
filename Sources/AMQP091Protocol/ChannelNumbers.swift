// SPDX-License-Identifier: Apache-2.0
package import AMQP091Wire
private import DequeModule

// ChannelNumbers: allocates the channel numbers of one connection (§4.2.3, channel-max of connection.tune).
// A closed number is reused after all numbers that were closed before it or never used: late deliveries for it can still
// arrive (RabbitMQ issue 13384), and a longer rest means that fewer reach its next user.
// Pure: no socket, clock, task or lock. The owner drops frames for a resting number; for an unknown one it reports a
// violation.

/// The channel numbers of one connection.
package struct ChannelNumbers: Sendable {
    /// The state of a channel number.
    package enum Standing: Hashable, Sendable {
        /// Never opened on this connection: a frame for it is a violation.
        case unknown
        case inUse
        /// Opened and closed: frames for it are dropped.
        case resting
    }

    /// The highest number that may be used, as negotiated.
    package let maximum: UInt16
    private var neverUsed: UInt16? = 1
    private var resting = Deque<UInt16>()
    private var used: Set<UInt16> = []

    /// Creates the numbers 1...maximum; none if it is 0.
    package init(maximum: UInt16) {
        self.maximum = maximum
        if maximum == 0 { self.neverUsed = nil }
    }

    /// Count of numbers in use.
    package var count: Int { self.used.count }

    /// Allocates the number that has rested longest; nil if all are in use.
    package mutating func allocate() -> ChannelNumber? {
        if let number = self.neverUsed {
            self.neverUsed = number < self.maximum ? number + 1 : nil
            self.used.insert(number)
            return ChannelNumber(rawValue: number)
        }
        guard let number = self.resting.popFirst() else { return nil }
        self.used.insert(number)
        return ChannelNumber(rawValue: number)
    }

    /// Releases a number after the close handshake; ignores a number that is not in use.
    package mutating func release(_ number: ChannelNumber) {
        guard self.used.remove(number.rawValue) != nil else { return }
        self.resting.append(number.rawValue)
    }

    /// Returns the state of this number.
    package func standing(of number: ChannelNumber) -> Standing {
        if self.used.contains(number.rawValue) { return .inUse }
        guard number.rawValue >= 1 && number.rawValue <= self.maximum else { return .unknown }
        guard let neverUsed = self.neverUsed, number.rawValue >= neverUsed else { return .resting }
        return .unknown
    }
}
