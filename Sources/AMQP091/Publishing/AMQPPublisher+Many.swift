// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire

// Many messages at once: a batch with one outcome each.
// Not here: a stream pulled under the confirm window (AMQPPublisher+Stream).

extension AMQPPublisher {
    /// Publishes a batch and waits for the outcome of each message.
    ///
    /// The confirm window applies within the batch, too, so a batch may be larger than the window.
    ///
    /// - Parameters:
    ///   - messages: The messages.
    ///   - destination: The exchange and routing key to publish to.
    ///   - mandatory: True to have the broker return messages that are routed to no queue.
    ///   - timeout: Time for the whole batch; the configuration's `operationTimeout` by default.
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    /// - Returns: One outcome per message, in order. If publishing cannot continue, the rest is `.notSent`.
    public func publish(
        contentsOf messages: some Sequence<AMQPMessage>,
        to destination: AMQPDestination,
        mandatory: Bool = false,
        timeout: Duration? = nil,
        fileID: StaticString = #fileID,
        line: UInt32 = #line
    ) async -> [AMQPPublishOutcome] {
        let site = CallSite(fileID, line)
        switch self.source {
        case .channel(let core):
            return await core.publish(
                contentsOf: messages,
                to: destination,
                mandatory: mandatory,
                site: site,
                deadline: core.driver.deadline(timeout)
            )
        case .recovering(let publisher):
            return await publisher.publish(
                contentsOf: messages,
                to: destination,
                mandatory: mandatory,
                site: site,
                deadline: publisher.deadline(timeout)
            )
        }
    }
}
