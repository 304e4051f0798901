// SPDX-License-Identifier: Apache-2.0
package import AMQP091Wire
private import DequeModule

// ChannelNumbers: which channel numbers of one connection are in use (§4.2.3, channel-max of connection.tune).
// A closed number waits behind every number that was closed before it or never used: late deliveries for it can still
// arrive (RabbitMQ issue 13384), and the longer it rests the fewer meet its next owner.
// Pure: no socket, clock, task or lock. The owner drops frames for a resting number and refuses those for an unknown one.

/// The channel numbers of one connection.
package struct ChannelNumbers: Sendable {
    /// What a number is at the moment.
    package enum Standing: Hashable, Sendable {
        /// Never opened on this connection: a frame for it is a violation.
        case unknown
        case inUse
        /// Opened and closed again: frames for it are dropped.
        case resting
    }

    /// The highest number that may be used, as negotiated.
    package let maximum: UInt16
    private var neverUsed: UInt16? = 1
    private var resting = Deque<UInt16>()
    private var used: Set<UInt16> = []

    /// Makes the numbers 1...maximum; none when it is 0.
    package init(maximum: UInt16) {
        self.maximum = maximum
        if maximum == 0 { self.neverUsed = nil }
    }

    /// Numbers in use.
    package var count: Int { self.used.count }

    /// Takes the number that has rested longest; nil when all are in use.
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

    /// Gives a number back, once both sides know the channel is closed; ignored for one not in use.
    package mutating func release(_ number: ChannelNumber) {
        guard self.used.remove(number.rawValue) != nil else { return }
        self.resting.append(number.rawValue)
    }

    /// Tells what a frame for this number means.
    package func standing(of number: ChannelNumber) -> Standing {
        if self.used.contains(number.rawValue) { return .inUse }
        guard number.rawValue >= 1 && number.rawValue <= self.maximum else { return .unknown }
        guard let neverUsed = self.neverUsed, number.rawValue >= neverUsed else { return .resting }
        return .unknown
    }
}
