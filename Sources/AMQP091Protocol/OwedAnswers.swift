// SPDX-License-Identifier: Apache-2.0
package import AMQP091Wire

// OwedAnswers: what the client has to send on a channel and must not send before tx.commit-ok, because RabbitMQ answers any
// method before that with the end of the connection (504).
// Pure: no socket, clock, task or lock. However often the peer asks, there is one answer to channel.flow, for the value
// that holds last, and one basic.cancel for each consumer.

/// The methods of one channel that are due after `tx.commit-ok`.
package struct OwedAnswers: Sendable {
    private var flow: Bool?
    private var cancelledTags: [String] = []

    package init() {}

    /// The peer sent `channel.flow`.
    package mutating func receivedFlow(active: Bool) { self.flow = active }

    /// The peer cancelled a consumer of the channel.
    package mutating func cancelledByBroker(_ tag: String) {
        if !self.cancelledTags.contains(tag) { self.cancelledTags.append(tag) }
    }

    /// The methods to send, once.
    package mutating func takeAll() -> [Method] {
        defer { self = OwedAnswers() }
        let flowOk = self.flow.map { [Method.channelFlowOk(.init(active: $0))] } ?? []
        return flowOk + self.cancelledTags.map { .basicCancel(.init(consumerTag: $0, noWait: true)) }
    }
}
