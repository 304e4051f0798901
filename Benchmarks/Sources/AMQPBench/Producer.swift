// SPDX-License-Identifier: Apache-2.0
import AMQP091
import EpollNetworking

// Producer: publishes on one channel, as fast as the window allows or on a schedule, as any user of the client would.
// When each message was due is noted in the lane's ConfirmTimes, from which the latency of every confirm comes. Every
// message of a schedule, and every 16th of a load without one, carries its times, from which the consumers read the
// end-to-end latency.

/// One producer of a run.
struct Producer: Sendable {
    /// Messages of a load without a schedule of which one carries its times.
    private static let timedEvery: UInt64 = 16
    /// Messages of such a load for which the clock is read once.
    private static let clockEvery: UInt64 = 8
    /// A publish that took longer waited for the window: the messages after it get a time of their own each.
    private static let longestCall: UInt64 = 1_000_000
    /// How many of them.
    private static let exactFor = 8192
    /// The shortest sleep, nanoseconds: a schedule closer than this is kept by publishing several at a time.
    static let shortestSleep: UInt64 = 100_000

    let lane: Lane
    let destinations: Destinations
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
    let published: Counter
    /// Makes a load without a schedule wait for the consumers.
    let backlog: Backlog?
    let lag: LatencyMeter
    let meters: RunMeters

    /// Where to publish, and where to note when.
    typealias Station = (channel: AMQPChannel, times: ConfirmTimes?)

    /// Publishes until the budget is spent or the flag is set, and waits for the broker's word on all of it.
    ///
    /// - Parameter start: When a schedule begins.
    /// - Throws: `AMQPError`.
    func publish(from start: UInt64) async throws {
        var pace = self.pace(from: start)
        if let delay = self.options.producerStartDelay {
            try await self.sleep(until: .now + .seconds(Double.random(in: 0..<delay)))
        }
        try await self.resuming { station in
            if let size = self.options.transactionSize {
                try await self.publishInTransactions(&pace, station, size: size)
            } else if pace != nil {
                try await self.keep(&pace, station)
            } else {
                try await self.publishLoad(station)
            }
            try await self.waitForConfirms(on: station.channel)
        }
        if let pace { self.giveUp(pace) }
        self.lane.endTimes()
    }

    /// Waits for the broker's word on all that was published.
    ///
    /// - Throws: `AMQPError`.
    func finish() async throws {
        try await self.resuming { try await self.waitForConfirms(on: $0.channel) }
        self.lane.endTimes()
    }

    private func waitForConfirms(on channel: AMQPChannel) async throws {
        guard self.options.confirms != nil else { return }
        do {
            try await channel.waitForConfirms()
        } catch {
            guard error.isRefusal else { throw error }
        }
    }

    /// Does something on the channel and, where the broker is killed on order, goes on with it when the broker is back.
    private func resuming(_ body: (Station) async throws -> Void) async throws {
        while true {
            let station = self.lane.station
            do {
                try await body(station)
                return
            } catch let error as AMQPError where self.resumes(after: error) {
                // Whether the last of them got through, nobody knows.
                let counts = station.channel.confirmCounts
                let end = self.published.current
                let count = min(end, counts.unknown + counts.unconfirmed)
                self.ledger.forget(self.number, end - count..<end)
                try await self.lane.renew()
            }
        }
    }

    /// Whether the run goes on after an error of a channel.
    func resumes(after error: AMQPError) -> Bool { error.isLoss && self.options.resumes }

    // MARK: - As fast as the window allows

    private func publishLoad(_ station: Station) async throws {
        let properties = self.properties
        let published = self.published
        let channel = station.channel
        var body = self.bodies.octets
        var header = self.header
        var left = 0
        var exact = 0
        var now = MonotonicClock.now
        while !self.stop.isSet {
            if left == 0 {
                left = self.budget.take(upTo: 64)
                guard left > 0 else { return }
                if let backlog, backlog.isFull {
                    try await backlog.wait(unless: self.stop) { try await self.clock.sleep(for: .milliseconds(1)) }
                    now = MonotonicClock.now
                }
            }
            if exact > 0 || header.sequence % Self.clockEvery == 0 {
                let time = MonotonicClock.now
                exact = time - now > Self.longestCall ? Self.exactFor : max(0, exact - 1)
                now = time
            }
            header.due = header.sequence % Self.timedEvery == 0 ? now : 0
            let size = self.bodies.write(header, to: &body)
            station.times?.note(now) { channel.confirmCounts.ended }
            do throws(AMQPError) {
                try await channel.publish(
                    body.span.bytes.extracting(first: size),
                    to: self.destinations[header.sequence],
                    mandatory: self.options.mandatory,
                    properties: properties
                )
            } catch {
                if error.isSafeToRetry { station.times?.takeBack() }
                throw error
            }
            header.sequence += 1
            left -= 1
            published.add()
        }
    }

    // MARK: - On a schedule

    /// Where a producer that keeps a schedule goes on.
    struct Pace: Sendable {
        fileprivate(set) var schedule: Schedule
        fileprivate var header: MessageHeader
        /// The next message was taken from the budget, and not published yet.
        fileprivate var isTaken = false

        /// When the next message is due.
        var due: UInt64 { self.schedule.due }
    }

    /// What became of a message that was due.
    enum Step: Sendable {
        case published
        /// All have been published.
        case spent
    }

    /// The beginning of the schedule; nil without a rate.
    func pace(from start: UInt64) -> Pace? {
        guard let rate = self.options.rate else { return nil }
        let profile = self.options.rateProfile ?? RateProfile(parts: [.init(rate: rate, seconds: 1)])
        // A run with a fixed count leaves no message out.
        let isOpenLoop = self.options.isOpenLoop || self.options.count != nil
        return Pace(
            schedule: Schedule(profile: profile, share: self.number, of: self.of, start: start, isOpenLoop: isOpenLoop),
            header: self.header
        )
    }

    /// Publishes the message that is due.
    ///
    /// - Parameters:
    ///   - pace: The schedule; it goes on to the next message, unless this one is not published.
    ///   - body: A copy of the bodies' octets, used again and again.
    ///   - station: Where to.
    ///   - now: The time.
    ///   - timeout: How long to wait for room; the connection's own time by default.
    /// - Returns: What became of it.
    /// - Throws: `AMQPError`; nothing was published.
    func publishDue(
        _ pace: inout Pace,
        _ body: inout [UInt8],
        _ station: Station,
        now: UInt64,
        timeout: Duration? = nil
    ) async throws(AMQPError) -> Step {
        if !pace.isTaken {
            guard self.budget.take(upTo: 1) == 1 else { return .spent }
            pace.isTaken = true
        }
        let due = pace.due
        (pace.header.due, pace.header.sent) = (due, now)
        let size = self.bodies.write(pace.header, to: &body)
        station.times?.note(due) { station.channel.confirmCounts.ended }
        do throws(AMQPError) {
            try await station.channel.publish(
                body.span.bytes.extracting(first: size),
                to: self.destinations[pace.header.sequence],
                mandatory: self.options.mandatory,
                properties: self.properties,
                timeout: timeout
            )
        } catch {
            if error.isSafeToRetry { station.times?.takeBack() }
            throw error
        }
        pace.header.sequence += 1
        self.published.add()
        self.advance(&pace, now: now, due: due)
        return .published
    }

    private func advance(_ pace: inout Pace, now: UInt64, due: UInt64) {
        let omitted = pace.schedule.advance(now: now)
        pace.isTaken = false
        self.lag.record(now - min(now, due), due: due)
        guard let omitted else { return }
        self.meters.unsent.record { recorded in for due in omitted { recorded.record(now - due, due: due) } }
    }

    /// False when the run is over: the flag is set, and the message was due after the end.
    func mayPublish(_ pace: Pace) -> Bool {
        !self.stop.isSet || self.meters.time.owes(pace.due, now: MonotonicClock.now)
    }

    /// Records the age of what was due before the end and is not published any more.
    func giveUp(_ pace: Pace) {
        guard self.options.count == nil else { return }
        let now = MonotonicClock.now
        var schedule = pace.schedule
        self.meters.unsent.record { recorded in
            while schedule.due <= now, self.meters.time.isBeforeEnd(schedule.due) {
                recorded.record(now - schedule.due, due: schedule.due)
                schedule.advance(now: schedule.due)
            }
        }
    }

    /// Publishes what is due until nothing is, waiting for room and, where the broker is killed, for the broker.
    ///
    /// - Parameter pace: The schedule.
    /// - Returns: False when the budget is spent or the run over.
    /// - Throws: `AMQPError`.
    func catchUp(_ pace: inout Pace) async throws -> Bool {
        var isSpent = false
        var body = self.bodies.octets
        try await self.resuming { station in
            while self.mayPublish(pace), !isSpent {
                let now = MonotonicClock.now
                guard pace.due <= now else { return }
                if case .spent = try await self.publishDue(&pace, &body, station, now: now) { isSpent = true }
            }
        }
        return !isSpent && self.mayPublish(pace)
    }

    /// Keeps the schedule to its end.
    private func keep(_ given: inout Pace?, _ station: Station) async throws {
        guard var pace = given else { return }
        // Goes on from here when the channel is lost.
        defer { given = pace }
        var body = self.bodies.octets
        while self.mayPublish(pace) {
            var now = MonotonicClock.now
            if pace.due > now {
                let pause = max(pace.due - now, Self.shortestSleep)
                try await self.sleep(until: .now + .nanoseconds(Int64(pause)))
                now = MonotonicClock.now
                if self.stop.isSet { continue }
            }
            if case .spent = try await self.publishDue(&pace, &body, station, now: now) { return }
        }
    }

    /// Sleeps in pieces, so that a run with a slow schedule can be ended.
    func sleep(until end: ContinuousClock.Instant) async throws {
        let piece = Duration.seconds(1)
        while !self.stop.isSet {
            let now = ContinuousClock.now
            guard end > now else { return }
            try await self.clock.sleep(for: min(end - now, piece))
        }
    }

    // MARK: - What is published

    /// The next header.
    var header: MessageHeader {
        MessageHeader(sequence: self.published.current, stream: UInt32(self.number), run: self.run)
    }
}

extension AMQPError {
    /// True for what the channel counts and the summary shows: the broker did not take a message.
    fileprivate var isRefusal: Bool { self.code == .nacked || self.code == .returned }
}
