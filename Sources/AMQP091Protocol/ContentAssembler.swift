// SPDX-License-Identifier: Apache-2.0
package import AMQP091Wire

// ContentAssembler: the order of frames of one channel's inbound contents: method, header, bodies (§4.2.6).
// Holds no octets, only the expected next frame; the owner holds the content's parts and drops them on request.
// Contents of one channel never interleave; channel.close and channel.close-ok may cut one short. §4.2.6.2: body size 0
// means no body frame.
//
// A body over the limit is not a violation: its frames are counted, and the owner discards them.
//
//   idle --method with content--> header --size > 0--> body --last octet--> idle
//                                        --size = 0--> idle

/// The order of content frames on one channel.
@frozen
package struct ContentAssembler: Hashable, Sendable {
    /// The owner's next step for a frame.
    @frozen
    package enum Action: Hashable, Sendable {
        /// Keep the frame; more frames of this content follow.
        case more
        /// Discard the frame: the body is larger than the limit; more frames of this content follow.
        case skip
        /// The content is complete.
        case complete
        /// The frame is out of order; the connection must be closed.
        case violation(ReplyCode, String)
    }

    @usableFromInline
    @frozen
    enum State: Hashable, Sendable {
        case idle
        case header
        case body(remaining: UInt64)
    }

    @usableFromInline var state: State = .idle
    @usableFromInline let maximumBodySize: UInt64

    /// Creates an assembler that expects a method.
    ///
    /// - Parameter maximumBodySize: Limit in octets; a larger body is read and discarded.
    package init(maximumBodySize: UInt64 = .max) { self.maximumBodySize = maximumBodySize }

    /// True between contents.
    @inlinable package var isIdle: Bool { self.state == .idle }

    /// Handles a method frame.
    ///
    /// - Parameters:
    ///   - id: The method.
    ///   - carriesContent: True if a header must follow.
    /// - Returns: `.complete` for a method without content.
    @inlinable
    package mutating func receivedMethod(_ id: MethodID, carriesContent: Bool) -> Action {
        guard case .idle = self.state else {
            if id == Self.channelClose || id == Self.channelCloseOk {
                self.state = .idle
                return .complete
            }
            return self.unexpectedMethod(id)
        }
        guard carriesContent else { return .complete }
        self.state = .header
        return .more
    }

    /// Handles a content header frame.
    @inlinable
    package mutating func receivedHeader(bodySize: UInt64) -> Action {
        guard case .header = self.state else {
            return .violation(.unexpectedFrame, "content header without a method before it")
        }
        guard bodySize > 0 else {
            self.state = .idle
            return .complete
        }
        self.state = .body(remaining: bodySize)
        return bodySize <= self.maximumBodySize ? .more : .skip
    }

    /// Handles a body frame.
    ///
    /// - Parameter count: Size of its payload in octets.
    /// - Returns: `.complete` for the last octet.
    @inlinable
    package mutating func receivedBody(count: Int) -> Action {
        guard case .body(let remaining) = self.state else {
            return .violation(.unexpectedFrame, "content body without a header before it")
        }
        guard let count = UInt64(exactly: count), count <= remaining else {
            return .violation(.frameError, "content body longer than its header said")
        }
        guard count < remaining else {
            self.state = .idle
            return .complete
        }
        self.state = .body(remaining: remaining - count)
        return .more
    }

    @inlinable static var channelClose: MethodID { MethodID(classID: 20, methodID: 40) }
    @inlinable static var channelCloseOk: MethodID { MethodID(classID: 20, methodID: 41) }

    @usableFromInline
    func unexpectedMethod(_ id: MethodID) -> Action {
        .violation(.unexpectedFrame, "\(id) in the middle of a content")
    }
}
