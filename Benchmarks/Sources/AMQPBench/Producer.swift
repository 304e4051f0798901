// SPDX-License-Identifier: Apache-2.0
import AMQP091

// Producer: publishes on one channel as fast as the window allows, as any user of the client would. Beside the load run
// a few probes, each with one message under way at a time, published with publishAndConfirm: from them comes the confirm
// latency. Every 64th message of the load carries its time, from which the consumers read the end-to-end latency.

/// One producer of a run.
struct Producer: Sendable {
    /// Probes of each producer.
    static let probes = 4
    /// How often each probe publishes, at most.
    static let probeInterval = Duration.milliseconds(10)
    /// Streams of messages that one producer numbers: the load and its probes.
    static let streams = 1 + Self.probes
    /// Messages of which one carries its time.
    static let timedEvery: UInt64 = 64

    let channel: AMQPChannel
    let destination: AMQPDestination
    let options: RunOptions
    /// The mark of the run.
    let run: UInt32
    /// The first of its streams.
    let firstStream: UInt32
    let budget: Budget
    let stop: StopFlag
    /// By stream.
    let published: [Counter]
    let latency: LatencyMeter

    /// Publishes until the budget is spent or the flag is set, and waits for the broker's word on all of it.
    func publish() async throws {
        try await withThrowingTaskGroup { group in
            group.addTask { try await self.publishLoad() }
            if self.options.confirms != nil {
                for index in 1...Self.probes { group.addTask { try await self.probe(stream: index) } }
            }
            try await group.waitForAll()
        }
        guard self.options.confirms != nil else { return }
        do {
            try await self.channel.waitForConfirms()
        } catch {
            guard error.isRefusal else { throw error }
        }
    }

    private func publishLoad() async throws(AMQPError) {
        let properties = self.properties
        let published = self.published[0]
        var body = [UInt8](repeating: 0, count: self.options.size ?? 0)
        var header = MessageHeader(sequence: 0, stream: self.firstStream, run: self.run)
        var left = 0
        while !self.stop.isSet {
            if left == 0 {
                left = self.budget.take(upTo: 64)
                guard left > 0 else { return }
            }
            header.time = header.sequence % Self.timedEvery == 0 ? MonotonicClock.now : 0
            header.write(to: &body)
            try await self.channel.publish(
                body.span.bytes,
                to: self.destination,
                mandatory: self.options.mandatory,
                properties: properties
            )
            header.sequence += 1
            left -= 1
            published.add()
        }
    }

    private func probe(stream: Int) async throws {
        var message = AMQPMessage("", properties: self.properties)
        var body = [UInt8](repeating: 0, count: self.options.size ?? 0)
        var header = MessageHeader(sequence: 0, stream: self.firstStream + UInt32(stream), run: self.run)
        var next = ContinuousClock.now + Self.probeInterval * stream / Self.probes
        while true {
            try await Task.sleep(until: next, tolerance: .zero, clock: .continuous)
            guard !self.stop.isSet, self.budget.take(upTo: 1) == 1 else { return }
            header.time = MonotonicClock.now
            header.write(to: &body)
            message.body = AMQPBody(body)
            do {
                try await self.channel.publishAndConfirm(
                    message,
                    to: self.destination,
                    mandatory: self.options.mandatory
                )
                self.latency.record(MonotonicClock.now - header.time)
            } catch {
                guard error.isRefusal else { throw error }
            }
            self.published[stream].add()
            header.sequence += 1
            next = max(next + Self.probeInterval, ContinuousClock.now)
        }
    }

    private var properties: BasicProperties {
        self.options.persistent ? BasicProperties(deliveryMode: 2) : BasicProperties()
    }
}

extension AMQPError {
    /// True for what the channel counts and the summary shows: the broker did not take a message.
    fileprivate var isRefusal: Bool { self.code == .nacked || self.code == .returned }
}
