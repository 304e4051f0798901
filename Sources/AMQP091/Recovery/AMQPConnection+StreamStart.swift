// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// Where a consumer of a stream would begin, as an offset: "next", "last" and "1h" mean another place each time they are
// sent, so a consumer that has to resume before its first delivery needs the offset they meant at the start.
// RabbitMQ has no question for it, and counts the messages of a stream in its own time. A short-lived consumer on a
// channel of its own reads the last chunk, which is delivered as a whole; a stream that delivers nothing is empty.

extension AMQPConnection {
    /// The offset at which a consumer with this `x-stream-offset` begins; nil if the value means the same place later.
    ///
    /// - Parameters:
    ///   - queue: A stream.
    ///   - argument: The value of `x-stream-offset`; nil for RabbitMQ's default, `next`.
    ///   - timeout: Time for each reply.
    /// - Returns: The offset.
    /// - Throws: ``AMQPError``, as the consumer itself would.
    func streamStart(
        of queue: String,
        at argument: FieldValue?,
        timeout: Duration?
    ) async throws(AMQPError) -> UInt64? {
        let text: String
        switch argument {
        case nil: text = "next"
        case .longString(let octets)?: text = String(decoding: octets, as: UTF8.self)
        default: return nil
        }
        if text == "first" { return nil }
        if text != "next", let found = try await self.offsets(of: queue, from: text, prefetch: 1, timeout: timeout) {
            return found.lowerBound
        }
        return try await self.streamEnd(of: queue, timeout: timeout)
    }

    /// The offset after the last message of a stream; 0 for a stream that never had one.
    ///
    /// A stream that ever had a message keeps its last segment.
    ///
    /// - Parameters:
    ///   - queue: A stream.
    ///   - emptyDelay: Time without a message after which the stream is taken for empty.
    ///   - timeout: Time for each reply.
    /// - Returns: The offset.
    /// - Throws: ``AMQPError``, as a consumer would.
    func streamEnd(
        of queue: String,
        emptyDelay: Duration = AMQPConnection.emptyStreamDelay,
        timeout: Duration?
    ) async throws(AMQPError) -> UInt64 {
        let last = try await self.offsets(of: queue, from: "last", prefetch: .max, emptyDelay, timeout: timeout)
        return last.map { $0.upperBound &+ 1 } ?? 0
    }

    /// How long a stream that has messages may take to deliver the first: usually it comes with `consume-ok`.
    static let emptyStreamDelay = Duration.milliseconds(500)

    /// The offsets delivered at once to a consumer that begins there; nil if there are none.
    private func offsets(
        of queue: String,
        from start: String,
        prefetch: UInt16,
        _ emptyDelay: Duration = AMQPConnection.emptyStreamDelay,
        timeout: Duration?
    ) async throws(AMQPError) -> ClosedRange<UInt64>? {
        let channel = try await self.openChannel(timeout: timeout)
        do throws(AMQPError) {
            try await channel.setPrefetch(count: prefetch, timeout: timeout)
            let inbox = try await channel.core.startConsumer(
                queue: queue,
                consumerTag: nil,
                isAutomatic: false,
                exclusive: false,
                arguments: ["x-stream-offset": .string(start)],
                timeout: timeout
            )
            let hasBegun = ObservedValue(false)
            // Cancelled while its deliveries are read: more than the buffer takes would keep the reply from being read.
            let cancelling = Task {
                _ = try? await hasBegun.wait(until: .now + emptyDelay) { $0 ? true : nil }
                do throws(AMQPError) {
                    try await channel.core.cancel(inbox, timeout: timeout)
                } catch {
                    inbox.finish(.failed(error))
                }
            }
            var found: ClosedRange<UInt64>?
            for try await delivery in AMQPDeliveries(inbox: inbox) {
                if found == nil { hasBegun.change { $0 = true } }
                guard let offset = try? delivery.properties().streamOffset else { continue }
                found = min(found?.lowerBound ?? offset, offset)...max(found?.upperBound ?? offset, offset)
            }
            await cancelling.value
            await channel.core.closeShielded()
            return found
        } catch {
            if channel.isOpen { await channel.core.closeShielded() }
            throw error
        }
    }
}
