// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import DequeModule

// Many messages at once: a batch with one outcome each, and a stream pulled under the confirm window.

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

    /// Publishes what a sequence yields, never more unconfirmed than the window allows.
    ///
    /// The sequence is asked for its next message only when there is room. A refused message does not end the stream.
    ///
    /// - Parameters:
    ///   - stream: The messages.
    ///   - destination: Where to.
    ///   - mandatory: Whether the broker returns messages that no queue takes.
    ///   - maxInFlight: Messages of this stream unconfirmed at which it pauses; the publisher's window by default, which
    ///     holds in any case.
    ///   - timeout: Time each message waits for room, and the last ones for their confirms; the configuration's
    ///     `operationTimeout` by default.
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    ///   - onOutcome: Called for each message taken from the sequence, in their order, as its outcome becomes known.
    /// - Returns: How many messages ended in which way.
    /// - Throws: What the sequence throws, or ``AMQPError`` when publishing cannot go on; `onOutcome` has been told of
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
        let core: ChannelSession
        switch self.source {
        case .channel(let own): core = own
        case .recovering(let publisher):
            return try await publisher.publish(
                stream: stream,
                to: destination,
                mandatory: mandatory,
                maxInFlight: maxInFlight,
                site: CallSite(fileID, line),
                timeout: timeout,
                onOutcome: onOutcome
            )
        }
        var flight = StreamFlight(core: core, limit: maxInFlight ?? .max, onOutcome: onOutcome)
        var failure: (any Error)?
        do {
            for try await message in stream {
                let deadline = flight.core.driver.deadline(timeout)
                try await flight.waitForRoom(deadline: deadline)
                try await flight.publish(
                    message,
                    to: destination,
                    mandatory: mandatory,
                    site: CallSite(fileID, line),
                    deadline: deadline
                )
            }
        } catch {
            failure = error
        }
        let interruption = await flight.land(deadline: flight.core.driver.deadline(timeout))
        if let error = failure ?? interruption { throw error }
        return flight.summary
    }
}

/// The messages of one stream that are unconfirmed, in order.
private struct StreamFlight {
    let core: ChannelSession
    let limit: Int
    let onOutcome: ((AMQPPublishOutcome) -> Void)?
    var summary = AMQPPublishSummary()
    private var unconfirmed = Deque<UInt64>()

    init(core: ChannelSession, limit: Int, onOutcome: ((AMQPPublishOutcome) -> Void)?) {
        self.core = core
        self.limit = limit
        self.onOutcome = onOutcome
    }

    private mutating func ended(_ outcome: AMQPPublishOutcome) {
        self.summary.add(outcome)
        self.onOutcome?(outcome)
    }

    /// Takes those off the front whose outcome is known.
    private mutating func collect() {
        while let first = self.unconfirmed.first, let outcome = self.core.knownOutcome(of: first) {
            self.unconfirmed.removeFirst()
            self.ended(outcome)
        }
    }

    /// Waits until the stream may have one more unconfirmed.
    mutating func waitForRoom(deadline: UInt64) async throws(AMQPError) {
        guard self.unconfirmed.count >= self.limit else { return }
        self.collect()
        guard self.unconfirmed.count >= self.limit else { return }
        // Half of them at a time: one wake-up for many.
        try await self.core.waitUntilSettled(through: self.unconfirmed[(self.limit - 1) / 2], deadline: deadline)
        self.collect()
    }

    mutating func publish(
        _ message: AMQPMessage,
        to destination: AMQPDestination,
        mandatory: Bool,
        site: CallSite,
        deadline: UInt64
    ) async throws(AMQPError) {
        do throws(AMQPError) {
            let sequence = try await self.core.enqueue(
                message,
                to: destination,
                mandatory: mandatory,
                site: site,
                deadline: deadline
            )
            self.unconfirmed.append(sequence)
            if self.unconfirmed.count.isMultiple(of: 1024) { self.collect() }
        } catch {
            // Those before it are told of first.
            _ = await self.land(deadline: deadline)
            self.ended(.notSent(error))
            // A message that cannot be encoded is its own affair.
            guard error.code == .invalidArgument else { throw error }
        }
    }

    /// Waits for the outcome of all that is unconfirmed; what is then still open is unknown.
    mutating func land(deadline: UInt64) async -> AMQPError? {
        var interruption: AMQPError?
        if let last = self.unconfirmed.last {
            do throws(AMQPError) {
                try await self.core.waitUntilSettled(through: last, deadline: deadline)
            } catch {
                interruption = error
            }
        }
        while let sequence = self.unconfirmed.popFirst() {
            let reason = interruption ?? AMQPError(.timedOut, "the deadline passed before the broker confirmed")
            self.ended(self.core.knownOutcome(of: sequence) ?? .unknown(reason))
        }
        return interruption
    }
}
