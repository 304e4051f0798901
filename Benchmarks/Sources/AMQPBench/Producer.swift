// SPDX-License-Identifier: Apache-2.0
import AMQP091
import EpollNetworking
import Synchronization

// Producer: publishes on one channel, as fast as the window allows or on a schedule, as any user of the client would.
// Beside the load a few messages are published with publishAndConfirm: from these probes comes the confirm latency.
// Every 64th message of the load, and every one of an open loop, carries its times, from which the consumers read the
// end-to-end latency.

/// One producer of a run.
struct Producer: Sendable {
    /// Probes that run beside a load without a schedule.
    static let probes = 4
    /// Streams of messages that one producer numbers: the load and its probes.
    static let streams = 1 + Self.probes
    /// Messages of which one carries its times.
    private static let timedEvery: UInt64 = 64
    /// Probes per second of all producers together.
    private static let probesPerSecond = 400
    /// The shortest sleep, nanoseconds: a schedule closer than this is kept by publishing several at a time.
    static let shortestSleep: UInt64 = 100_000

    let lane: Lane
    let destination: AMQPDestination
    let options: RunOptions
    let properties: BasicProperties
    let bodies: BodyPlan
    /// The mark of the run.
    let run: UInt32
    /// Which producer this is of all that publish together, from 0.
    let number: Int
    /// How many producers publish together, those of other instances included.
    let of: Int
    let ledger: Ledger
    let budget: Budget
    let stop: StopFlag
    /// Whose timers keep the schedule: those of a loop cost a tenth of the task scheduler's.
    let clock: EventLoop
    /// By stream.
    let published: [Counter]
    let latency: LatencyMeter
    let lag: LatencyMeter

    /// Publishes until the budget is spent or the flag is set, and waits for the broker's word on all of it.
    ///
    /// - Parameter start: When a schedule begins.
    /// - Throws: `AMQPError`.
    func publish(from start: UInt64) async throws {
        var pace = self.pace(from: start)
        try await self.resuming { channel in
            if pace != nil {
                try await self.keep(&pace, on: channel)
            } else {
                try await withThrowingTaskGroup { group in
                    group.addTask { try await self.publishLoad(on: channel) }
                    if self.options.confirms != nil {
                        for index in 1...Self.probes {
                            group.addTask { try await self.probe(stream: index, on: channel) }
                        }
                    }
                    try await group.waitForAll()
                }
            }
            try await self.waitForConfirms(on: channel)
        }
    }

    /// Waits for the broker's word on all that was published.
    ///
    /// - Throws: `AMQPError`.
    func finish() async throws { try await self.resuming { try await self.waitForConfirms(on: $0) } }

    private func waitForConfirms(on channel: AMQPChannel) async throws {
        guard self.options.confirms != nil else { return }
        do {
            try await channel.waitForConfirms()
        } catch {
            guard error.isRefusal else { throw error }
        }
    }

    /// Does something on the channel and, where the broker is killed on order, goes on with it when the broker is back.
    private func resuming(_ body: (AMQPChannel) async throws -> Void) async throws {
        while true {
            let channel = self.lane.channel
            do {
                try await body(channel)
                return
            } catch let error as AMQPError where self.resumes(after: error) {
                // Whether the last of them got through, nobody knows.
                let unknown = channel.confirmCounts.unknown + channel.confirmCounts.unconfirmed
                for stream in 0..<Self.streams {
                    let end = self.published[stream].current
                    let count = min(end, stream == 0 ? unknown : 1)
                    self.ledger.forget(self.number * Self.streams + stream, end - count..<end)
                }
                try await self.lane.renew()
            }
        }
    }

    /// Whether the run goes on after an error of a channel.
    func resumes(after error: AMQPError) -> Bool { error.isLoss && self.options.resumes }

    // MARK: - As fast as the window allows

    private func publishLoad(on channel: AMQPChannel) async throws(AMQPError) {
        let properties = self.properties
        let published = self.published[0]
        var body = self.bodies.octets
        var header = self.header(stream: 0)
        var left = 0
        while !self.stop.isSet {
            if left == 0 {
                left = self.budget.take(upTo: 64)
                guard left > 0 else { return }
            }
            header.due = header.sequence % Self.timedEvery == 0 ? MonotonicClock.now : 0
            let size = self.bodies.write(header, to: &body)
            try await channel.publish(
                body.span.bytes.extracting(first: size),
                to: self.destination,
                mandatory: self.options.mandatory,
                properties: properties
            )
            header.sequence += 1
            left -= 1
            published.add()
        }
    }

    private func probe(stream: Int, on channel: AMQPChannel) async throws {
        let interval = Duration.seconds(Self.probes * self.of) / Self.probesPerSecond
        var header = self.header(stream: stream)
        var next = ContinuousClock.now + interval * stream / Self.probes
        while true {
            try await self.sleep(until: next)
            guard !self.stop.isSet, self.budget.take(upTo: 1) == 1 else { return }
            header.due = MonotonicClock.now
            try await self.publishAndConfirm(header, stream: stream, on: channel)
            header.sequence += 1
            next = max(next + interval, ContinuousClock.now)
        }
    }

    private func publishAndConfirm(
        _ header: MessageHeader,
        stream: Int,
        on channel: AMQPChannel
    ) async throws(AMQPError) {
        var body = self.bodies.octets
        let size = self.bodies.write(header, to: &body)
        body.removeLast(body.count - size)
        let start = MonotonicClock.now
        do {
            try await channel.publishAndConfirm(
                AMQPMessage(AMQPBody(body), properties: self.properties),
                to: self.destination,
                mandatory: self.options.mandatory
            )
            self.latency.record(MonotonicClock.now - start)
        } catch {
            // What may have been written has its number.
            if !error.isSafeToRetry && !error.isRefusal { self.published[stream].add() }
            guard error.isRefusal else { throw error }
        }
        self.published[stream].add()
    }

    // MARK: - On a schedule

    /// Where a producer that keeps a schedule goes on.
    struct Pace: Sendable {
        fileprivate(set) var schedule: Schedule
        fileprivate var load: MessageHeader
        fileprivate var probe: MessageHeader
        fileprivate let probeEvery: UInt64
        /// One probe at a time: they are a stream whose order is checked too.
        fileprivate let isProbing = Flag()
        /// The next message was taken from the budget, and not published yet.
        fileprivate var isTaken = false

        /// When the next message is due.
        var due: UInt64 { self.schedule.due }
    }

    /// What became of a message that was due.
    enum Step: Sendable {
        case published
        /// To be published with ``publishProbe(_:of:)``, which waits for its confirm.
        case probe(MessageHeader)
        /// All have been published.
        case spent
    }

    /// The beginning of the schedule; nil without a rate.
    func pace(from start: UInt64) -> Pace? {
        guard let rate = self.options.rate else { return nil }
        let profile = self.options.rateProfile ?? RateProfile(parts: [.init(rate: rate, seconds: 1)])
        let isOpenLoop = self.options.isOpenLoop
        return Pace(
            schedule: Schedule(profile: profile, share: self.number, of: self.of, start: start, isOpenLoop: isOpenLoop),
            load: self.header(stream: 0),
            probe: self.header(stream: 1),
            probeEvery: self.options.confirms == nil ? .max : UInt64(max(1, rate / Double(Self.probesPerSecond)))
        )
    }

    /// Publishes the message that is due.
    ///
    /// - Parameters:
    ///   - pace: The schedule; it goes on to the next message, unless this one is not published.
    ///   - body: A copy of the bodies' octets, used again and again.
    ///   - channel: Where to.
    ///   - now: The time.
    ///   - mayProbe: False where a probe cannot be awaited.
    ///   - timeout: How long to wait for room; the connection's own time by default.
    /// - Returns: What became of it.
    /// - Throws: `AMQPError`; nothing was published.
    func publishDue(
        _ pace: inout Pace,
        _ body: inout [UInt8],
        on channel: AMQPChannel,
        now: UInt64,
        mayProbe: Bool = true,
        timeout: Duration? = nil
    ) async throws(AMQPError) -> Step {
        if !pace.isTaken {
            guard self.budget.take(upTo: 1) == 1 else { return .spent }
            pace.isTaken = true
        }
        let due = pace.due
        // Of many producers not all probe at the same time.
        let number = pace.load.sequence + pace.probe.sequence + UInt64(self.number)
        if mayProbe, number % pace.probeEvery == 0, pace.isProbing.take() {
            var probe = pace.probe
            (probe.due, probe.sent) = (due, now)
            pace.probe.sequence += 1
            self.advance(&pace, now: now, due: due)
            return .probe(probe)
        }
        let isTimed = self.options.isOpenLoop || number % Self.timedEvery == 0
        (pace.load.due, pace.load.sent) = isTimed ? (due, now) : (0, 0)
        let size = self.bodies.write(pace.load, to: &body)
        try await channel.publish(
            body.span.bytes.extracting(first: size),
            to: self.destination,
            mandatory: self.options.mandatory,
            properties: self.properties,
            timeout: timeout
        )
        pace.load.sequence += 1
        self.published[0].add()
        self.advance(&pace, now: now, due: due)
        return .published
    }

    private func advance(_ pace: inout Pace, now: UInt64, due: UInt64) {
        pace.schedule.advance(now: now)
        pace.isTaken = false
        self.lag.record(now - min(now, due))
    }

    /// Publishes a probe and waits for its confirm.
    ///
    /// - Parameters:
    ///   - header: What ``publishDue(_:_:on:now:mayProbe:timeout:)`` gave.
    ///   - pace: Whose probe it is.
    ///   - channel: Where to.
    /// - Throws: `AMQPError`.
    func publishProbe(_ header: MessageHeader, of pace: Pace, on channel: AMQPChannel) async throws(AMQPError) {
        defer { pace.isProbing.giveBack() }
        try await self.publishAndConfirm(header, stream: 1, on: channel)
    }

    /// Publishes what is due until nothing is, waiting for room and, where the broker is killed, for the broker.
    ///
    /// - Parameter pace: The schedule.
    /// - Returns: False when the budget is spent or the run over.
    /// - Throws: `AMQPError`.
    func catchUp(_ pace: inout Pace) async throws -> Bool {
        var isSpent = false
        var body = self.bodies.octets
        try await self.resuming { channel in
            while !self.stop.isSet, !isSpent {
                let now = MonotonicClock.now
                guard pace.due <= now else { return }
                let step = try await self.publishDue(&pace, &body, on: channel, now: now, mayProbe: false)
                if case .spent = step { isSpent = true }
            }
        }
        return !isSpent && !self.stop.isSet
    }

    /// Keeps the schedule to its end.
    private func keep(_ given: inout Pace?, on channel: AMQPChannel) async throws {
        guard var pace = given else { return }
        // Goes on from here when the channel is lost.
        defer { given = pace }
        var body = self.bodies.octets
        try await withThrowingDiscardingTaskGroup { group in
            while !self.stop.isSet {
                var now = MonotonicClock.now
                if pace.due > now {
                    let pause = max(pace.due - now, Self.shortestSleep)
                    try await self.sleep(until: .now + .nanoseconds(Int64(pause)))
                    now = MonotonicClock.now
                    if self.stop.isSet { break }
                }
                switch try await self.publishDue(&pace, &body, on: channel, now: now) {
                case .published: break
                case .spent: return
                case .probe(let header):
                    group.addTask { [pace] in try await self.publishProbe(header, of: pace, on: channel) }
                }
            }
        }
    }

    /// Sleeps in pieces, so that a run with a slow schedule can be ended.
    private func sleep(until end: ContinuousClock.Instant) async throws {
        let piece = Duration.seconds(1)
        while !self.stop.isSet {
            let now = ContinuousClock.now
            guard end > now else { return }
            try await self.clock.sleep(for: min(end - now, piece))
        }
    }

    // MARK: - What is published

    /// The next header of a stream.
    private func header(stream: Int) -> MessageHeader {
        MessageHeader(
            sequence: self.published[stream].current,
            stream: UInt32(self.number * Self.streams + stream),
            run: self.run
        )
    }
}

/// Something that one task has at a time.
private final class Flag: Sendable {
    private let isTaken = Atomic(false)

    /// True for who has it now.
    func take() -> Bool { !self.isTaken.exchange(true, ordering: .acquiring) }

    func giveBack() { self.isTaken.store(false, ordering: .releasing) }
}

extension AMQPError {
    /// True for what the channel counts and the summary shows: the broker did not take a message.
    fileprivate var isRefusal: Bool { self.code == .nacked || self.code == .returned }
}
