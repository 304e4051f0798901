// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire

// Many messages at once: a batch with one outcome each.
// Not here: a stream pulled under the confirm window (AMQPPublisher+Stream).

extension AMQPPublisher {
    /// Publishes a batch and waits for the broker's word on each message.
    ///
    /// The window applies inside the batch too, so a batch may be larger than it.
    ///
    /// - Parameters:
    ///   - messages: The messages.
    ///   - destination: Where to.
    ///   - mandatory: Whether the broker returns messages that no queue takes.
    ///   - timeout: Time for the whole batch; the configuration's `operationTimeout` by default.
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    /// - Returns: One outcome per message, in order. When publishing cannot go on, the rest is `.notSent`.
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
