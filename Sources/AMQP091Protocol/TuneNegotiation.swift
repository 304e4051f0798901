// SPDX-License-Identifier: Apache-2.0

// TuneNegotiation: channel-max, frame-max and heartbeat, from our wishes and the broker's connection.tune (§1.4.2.5-6).
// 0 means "no limit of mine" for the first two, and "no heartbeat" for the third; what is left open gets a value here,
// because everything behind needs a bound. Pure: no socket, clock, task or lock.

/// What we wish for, to be combined with what the broker proposes.
package struct TuneNegotiation: Hashable, Sendable {
    /// What both sides keep to.
    package struct Negotiated: Hashable, Sendable {
        /// The highest channel number, 1...65535.
        package let channelMaximum: UInt16
        /// The largest frame in octets, with its overhead of 8.
        package let frameMaximum: UInt32
        /// The heartbeat interval in seconds; 0 for none.
        package let heartbeat: UInt16

        package init(channelMaximum: UInt16, frameMaximum: UInt32, heartbeat: UInt16) {
            self.channelMaximum = channelMaximum
            self.frameMaximum = frameMaximum
            self.heartbeat = heartbeat
        }
    }

    /// A wish that cannot be sent.
    package enum Invalid: Error, Hashable, Sendable {
        /// A frame size from 1 to 8191; RabbitMQ refuses it.
        case frameMaximumTooSmall(UInt32)
    }

    /// A proposal that cannot be accepted.
    package enum Refusal: Error, Hashable, Sendable {
        /// The broker proposed 1...4095, less than the specification's minimum.
        case frameMaximumTooSmall(UInt32)
    }

    /// The smallest frame size a user may ask for; RabbitMQ's minimum.
    package static let minimumOwnFrameSize: UInt32 = 8192
    /// The smallest frame size a peer may propose; the specification's minimum.
    package static let minimumPeerFrameSize: UInt32 = 4096
    /// Used when neither side sets a limit.
    package static let defaultFrameMaximum: UInt32 = 131_072

    private let channelMaximum: UInt16
    private let frameMaximum: UInt32
    private let heartbeat: UInt16?

    /// Makes our side of the negotiation.
    ///
    /// - Parameters:
    ///   - channelMaximum: Channels at most; 0 takes the broker's number.
    ///   - frameMaximum: Octets of a frame at most, 8192 or more; 0 takes the broker's number.
    ///   - heartbeat: Seconds; nil takes the broker's number, 0 asks for none.
    /// - Throws: `Invalid` for a frame size from 1 to 8191.
    package init(channelMaximum: UInt16, frameMaximum: UInt32, heartbeat: UInt16?) throws(Invalid) {
        guard frameMaximum == 0 || frameMaximum >= Self.minimumOwnFrameSize else {
            throw .frameMaximumTooSmall(frameMaximum)
        }
        self.channelMaximum = channelMaximum
        self.frameMaximum = frameMaximum
        self.heartbeat = heartbeat
    }

    /// Combines our wishes with the broker's `connection.tune`.
    package func negotiate(
        channelMaximum: UInt16,
        frameMaximum: UInt32,
        heartbeat: UInt16
    ) throws(Refusal) -> Negotiated {
        guard frameMaximum == 0 || frameMaximum >= Self.minimumPeerFrameSize else {
            throw .frameMaximumTooSmall(frameMaximum)
        }
        return Negotiated(
            channelMaximum: Self.smaller(self.channelMaximum, channelMaximum) ?? .max,
            frameMaximum: Self.smaller(self.frameMaximum, frameMaximum) ?? Self.defaultFrameMaximum,
            heartbeat: self.heartbeat.map { $0 == 0 ? 0 : Self.smaller($0, heartbeat) ?? 0 } ?? heartbeat
        )
    }

    /// The smaller one, where 0 is no limit; nil when both are 0.
    private static func smaller<Number: UnsignedInteger>(_ ours: Number, _ theirs: Number) -> Number? {
        if ours == 0 || theirs == 0 { return max(ours, theirs) == 0 ? nil : max(ours, theirs) }
        return min(ours, theirs)
    }
}
