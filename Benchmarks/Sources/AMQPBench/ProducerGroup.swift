// SPDX-License-Identifier: Apache-2.0
import AMQP091
import EpollNetworking
import Synchronization

// ProducerGroup: many producers that keep a schedule, for which one task publishes on the thread of their loop. It sleeps
// once until the next of all is due: a timer and a change of threads for each message cost ten times what the message
// does. A producer that cannot publish at once, because its channel has no room or is lost, goes on in a task of its own
// until it has caught up, so that it holds up no other.

/// Producers of one loop.
struct ProducerGroup: Sendable {
    /// With fewer producers each has a task of its own.
    static let smallest = 8
    /// Messages after which the loop gets its turn.
    private static let batch = 64
    /// The longest sleep, after which is looked whether the run is over.
    private static let longestSleep: UInt64 = 100_000_000
    /// The same while producers are catching up.
    private static let shortSleep: UInt64 = 1_000_000

    let producers: [Producer]

    /// Producers that have caught up; without a schedule where there is no more to publish.
    private final class Returned: Sendable {
        private let list = Mutex<[(index: Int, pace: Producer.Pace?)]>([])
        /// Why one could not: the others are cancelled then, and their error says nothing.
        let failure = Mutex<(any Error)?>(nil)

        func add(_ index: Int, _ pace: Producer.Pace?) { self.list.withLock { $0.append((index, pace)) } }

        func take() -> [(index: Int, pace: Producer.Pace?)] {
            self.list.withLock { list in
                defer { list = [] }
                return list
            }
        }
    }

    /// Publishes until the budget is spent or the run over, and waits for the broker's word on all of it.
    ///
    /// - Parameter start: When the schedule begins.
    /// - Throws: `AMQPError`.
    func publish(from start: UInt64) async throws {
        guard let first = self.producers.first else { return }
        try await withTaskExecutorPreference(first.clock) {
            let returned = Returned()
            do {
                try await self.keepSchedule(from: start, first, returned)
            } catch {
                throw returned.failure.withLock { $0 } ?? error
            }
            try await withThrowingDiscardingTaskGroup { group in
                for producer in self.producers { group.addTask { try await producer.finish() } }
            }
        }
    }

    /// True while the run is not over, or a message that was due before its end is not published.
    private func mayGoOn(_ first: Producer, _ next: Producer.Pace?, busy: Int) -> Bool {
        !first.stop.isSet || busy > 0 || next.map { first.mayPublish($0) } == true
    }

    private func keepSchedule(from start: UInt64, _ first: Producer, _ returned: Returned) async throws {
        var paces = self.producers.map { $0.pace(from: start) }
        var queue = DueQueue()
        for (index, pace) in paces.enumerated() { if let pace { queue.insert(index, at: pace.due) } }
        var busy = 0
        var inBatch = 0
        var body = first.bodies.octets
        try await withThrowingDiscardingTaskGroup { group in
            while self.mayGoOn(first, queue.first.flatMap { paces[$0.index] }, busy: busy) {
                if busy > 0 {
                    for (index, pace) in returned.take() {
                        busy -= 1
                        guard let pace else {
                            // After the end others may still have something to publish.
                            if first.stop.isSet { continue }
                            return
                        }
                        paces[index] = pace
                        queue.insert(index, at: pace.due)
                    }
                }
                let now = MonotonicClock.now
                guard let (due, index) = queue.first, due <= now else {
                    let wait = max((queue.first?.due ?? .max) - now, Producer.shortestSleep)
                    inBatch = 0
                    try await first.clock.sleep(
                        for: .nanoseconds(Int64(min(wait, busy > 0 ? Self.shortSleep : Self.longestSleep)))
                    )
                    continue
                }
                inBatch += 1
                if inBatch % Self.batch == 0 { await Task.yield() }
                guard var pace = paces[index].take() else { continue }
                let producer = self.producers[index]
                let station = producer.lane.station
                do throws(AMQPError) {
                    switch try await producer.publishDue(&pace, &body, station, now: now, timeout: .zero) {
                    case .published: break
                    case .spent: return
                    }
                    paces[index] = pace
                    queue.moveFirst(to: pace.due)
                } catch {
                    guard error.code == .timedOut || producer.resumes(after: error) else { throw error }
                    queue.removeFirst()
                    busy += 1
                    group.addTask { [pace] in
                        var pace = pace
                        do {
                            let goesOn = try await producer.catchUp(&pace)
                            if !goesOn { producer.giveUp(pace) }
                            returned.add(index, goesOn ? pace : nil)
                        } catch {
                            returned.failure.withLock { $0 = $0 ?? error }
                            throw error
                        }
                    }
                }
            }
            for (index, pace) in paces.enumerated() { if let pace { self.producers[index].giveUp(pace) } }
        }
    }
}
