// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// A stream of messages pulled under the confirm window, with outcomes reported as they become known.
// With `onOutcome` two child tasks share the work: one pulls and publishes, the other waits for outcomes and reports them,
// because a sequence may yield nothing before an outcome is reported. Neither the sequence nor `onOutcome` need be
// Sendable: both tasks run on the caller's actor, or without an actor on one lane (SerialLane), so that they alternate
// at suspension points and never run concurrently.
// Not here: messages in flight (StreamFlight).

extension AMQPPublisher {
    /// Publishes the messages of a sequence, with at most the confirm window unconfirmed.
    ///
    /// The next message is requested only when there is room. A refused message does not end the stream.
    ///
    /// - Parameters:
    ///   - stream: The messages.
    ///   - destination: The exchange and routing key to publish to.
    ///   - mandatory: True to have the broker return messages that are routed to no queue.
    ///   - maxInFlight: Maximum number of messages of this stream without an outcome; the publisher's window by
    ///     default, which applies in any case.
    ///   - timeout: Time each message has, from when it was taken, for room and its confirm together; so all outcomes are
    ///     known that long after the end of the sequence. The configuration's `operationTimeout` by default.
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    ///   - onOutcome: Called once for each message taken from the sequence, in their order, as soon as its outcome and those
    ///     of all before it are known; also while the sequence is being waited for, and never at the same time as its
    ///     code runs.
    /// - Returns: The counts of messages by outcome.
    /// - Throws: The error of the sequence, or ``AMQPError`` if publishing cannot continue; `onOutcome` was called for
    ///   every message taken by then.
    public func publish<Source: AsyncSequence>(
        stream: Source,
        to destination: AMQPDestination,
        mandatory: Bool = false,
        maxInFlight: Int? = nil,
        timeout: Duration? = nil,
        fileID: StaticString = #fileID,
        line: UInt32 = #line,
        onOutcome: ((AMQPPublishOutcome) -> Void)? = nil
    ) async throws -> AMQPPublishSummary where Source.Element == AMQPMessage {
        guard maxInFlight ?? 1 >= 1 else {
            throw AMQPError(
                .invalidArgument,
                "maxInFlight is \(maxInFlight ?? 0); it is at least 1",
                isSafeToRetry: true
            )
        }
        let window = if case .recovering(let publisher) = self.source { publisher.maxInFlight } else { Int.max }
        let flight = StreamFlight(limit: min(maxInFlight ?? .max, window), onOutcome: onOutcome)
        let feed = StreamFeed(
            publisher: self,
            destination: destination,
            mandatory: mandatory,
            site: CallSite(fileID, line),
            timeout: timeout
        )
        if onOutcome == nil {
            await feed.pull(stream, into: flight, isolation: #isolation)
            while flight.count > 0 { await flight.tellOldest(isolation: #isolation) }
        } else {
            await feed.pullAndTell(stream, flight, isolation: #isolation)
        }
        if let failure = flight.failure { throw failure }
        // A connection's publisher ends with it; a client's has reported unknown outcomes.
        if case .channel = self.source, let interruption = flight.interruption { throw interruption }
        return flight.summary
    }
}

/// The options of one stream.
private struct StreamFeed: Sendable {
    let publisher: AMQPPublisher
    let destination: AMQPDestination
    let mandatory: Bool
    let site: CallSite
    let timeout: Duration?

    /// Takes messages and publishes them, until the sequence ends or publishing cannot continue.
    func pull<Source: AsyncSequence>(
        _ stream: Source,
        into flight: StreamFlight,
        isolation: isolated (any Actor)?
    ) async where Source.Element == AMQPMessage {
        do {
            for try await message in stream {
                let deadline = self.deadline
                do throws(AMQPError) {
                    try await flight.waitForRoom(until: deadline, isolation: isolation)
                    flight.add(try await self.enqueue(message, until: deadline), until: deadline)
                } catch {
                    flight.add(.notSent(error))
                    // A message that cannot be encoded does not affect others.
                    guard error.code == .invalidArgument else { throw error }
                }
            }
        } catch {
            flight.failure = error
        }
        flight.end()
    }

    /// As `pull`, and reports outcomes meanwhile.
    func pullAndTell<Source: AsyncSequence>(
        _ stream: Source,
        _ flight: StreamFlight,
        isolation: isolated (any Actor)?
    ) async where Source.Element == AMQPMessage {
        flight.hasTeller = true
        let lane = SerialLane()
        let turns = Turns(
            pull: { await self.pull(stream, into: flight, isolation: isolation) },
            tell: { await flight.tellAll(isolation: isolation) }
        )
        await withTaskGroup(of: Void.self, isolation: isolation) { group in
            group.addTask(executorPreference: lane) { await turns.pull() }
            group.addTask(executorPreference: lane) { await turns.tell() }
            await group.waitForAll(isolation: isolation)
        }
    }

    /// The state of two tasks that run on one actor or one lane, and so never concurrently.
    private struct Turns: @unchecked Sendable {
        let pull: () async -> Void
        let tell: () async -> Void
    }

    private var deadline: MonotonicTime {
        switch self.publisher.source {
        case .channel(let core): MonotonicTime(nanoseconds: core.driver.deadline(self.timeout))
        case .recovering(let publisher): publisher.deadline(self.timeout)
        }
    }

    private nonisolated(nonsending) func enqueue(
        _ message: AMQPMessage,
        until deadline: MonotonicTime
    ) async throws(AMQPError) -> AMQPPublishReceipt {
        switch self.publisher.source {
        case .channel(let core):
            let sequence = try await core.enqueue(
                message,
                to: self.destination,
                mandatory: self.mandatory,
                site: self.site,
                deadline: deadline.nanoseconds
            )
            return AMQPPublishReceipt(core: core, sequenceNumber: sequence)
        case .recovering(let publisher):
            return try await publisher.enqueue(
                message,
                to: self.destination,
                mandatory: self.mandatory,
                site: self.site,
                deadline: deadline
            )
        }
    }
}
