// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire

// ChannelRequest: what the client keeps of a request of a channel until it is answered, beside what RequestQueue needs.

/// What a request does to its channel when it is sent and when it is answered.
enum RequestPurpose: Sendable {
    /// Nothing but its reply.
    case plain
    case consume(ConsumerInbox)
    case cancel(ConsumerInbox)
    case get(queue: String, isAutomatic: Bool)
    case enableConfirms(window: Int, windowOctets: Int)
    case recover
    case beginTransaction
    case commit
    case rollBack
}

/// A request of a channel.
struct ChannelRequest: Sendable {
    let purpose: RequestPurpose
    /// The method's frame, while it waits for its turn.
    var frame: [UInt8] = []
}

typealias ChannelMachine = ChannelStateMachine<UInt32, ChannelRequest>
