// SPDX-License-Identifier: Apache-2.0

// TuneNegotiation: channel-max, frame-max and heartbeat from the client's limits and connection.tune (§1.4.2.5-6).
// 0 means "no limit" for the first two and "no heartbeat" for the third; a limit that neither side sets gets a value
// here, because later stages need a bound. Pure: no socket, clock, task or lock.

/// The client's limits, to be combined with the broker's.
package struct TuneNegotiation: Hashable, Sendable {
    /// The negotiated limits.
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

    /// An invalid limit of the client.
    package enum Invalid: Error, Hashable, Sendable {
        /// A frame size from 1 to 8191; RabbitMQ refuses it.
        case frameMaximumTooSmall(UInt32)
    }

    /// An unacceptable limit of the broker.
    package enum Refusal: Error, Hashable, Sendable {
        /// The broker proposed 1...4095, less than the specification's minimum.
        case frameMaximumTooSmall(UInt32)
    }

    /// Smallest frame size the client may request; RabbitMQ's minimum.
    package static let minimumOwnFrameSize: UInt32 = 8192
    /// Smallest frame size the peer may propose; the specification's minimum.
    package static let minimumPeerFrameSize: UInt32 = 4096
    /// Used if neither side sets a limit.
    package static let defaultFrameMaximum: UInt32 = 131_072

    private let channelMaximum: UInt16
    private let frameMaximum: UInt32
    private let heartbeat: UInt16?

    /// Creates the client's side of the negotiation.
    ///
    /// - Parameters:
    ///   - channelMaximum: Maximum number of channels; 0 takes the broker's.
    ///   - frameMaximum: Maximum frame size in octets, 8192 or more; 0 takes the broker's.
    ///   - heartbeat: Heartbeat interval in seconds; nil takes the broker's, 0 requests none.
    /// - Throws: `Invalid` for a frame size from 1 to 8191.
    package init(channelMaximum: UInt16, frameMaximum: UInt32, heartbeat: UInt16?) throws(Invalid) {
        guard frameMaximum == 0 || frameMaximum >= Self.minimumOwnFrameSize else {
            throw .frameMaximumTooSmall(frameMaximum)
        }
        self.channelMaximum = channelMaximum
        self.frameMaximum = frameMaximum
        self.heartbeat = heartbeat
    }

    /// Combines the client's limits with `connection.tune`.
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

    /// Returns the smaller limit, where 0 means none; nil if both are 0.
    private static func smaller<Number: UnsignedInteger>(_ ours: Number, _ theirs: Number) -> Number? {
        if ours == 0 || theirs == 0 { return max(ours, theirs) == 0 ? nil : max(ours, theirs) }
        return min(ours, theirs)
    }
}
