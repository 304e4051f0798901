// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import EpollNetworking
import Glibc
import Testing

// EventLoopSleepTests: waiting on a loop's timers, and what the loop counts meanwhile.

extension NetworkTests {
    @Suite("Event loop sleep and statistics", .timeLimit(.minutes(1)))
    struct EventLoopSleepTests {
        @Test("A sleep is never early, on the loop and off it", arguments: [0, 10, 900, 1500, 5000], [true, false])
        func neverEarly(microseconds: Int, onLoop: Bool) async throws {
            let loop = try EventLoop()
            let duration = Duration.microseconds(microseconds)
            let task = Task(executorPreference: onLoop ? loop : nil) {
                let start = MonotonicTime.now
                try await loop.sleep(for: duration)
                #expect(loop.isInLoop == onLoop)
                return MonotonicTime.now - start
            }
            #expect(try await task.value >= duration)
        }

        @Test("A cancelled sleep ends at once, and its timer is taken back")
        func cancelled() async throws {
            let loop = try EventLoop()
            let task = Task { try await loop.sleep(for: .seconds(600)) }
            task.cancel()
            let error = await #expect(throws: NetworkError.self) { try await task.value }
            #expect(error?.kind == .cancelled)
            let before = loop.statistics
            try await loop.sleep(for: .milliseconds(1))
            #expect(loop.statistics.since(before).timers == 1)
        }

        @Test("Those who sleep on a loop that ends are woken, and told so")
        func loopEnds() async throws {
            let loop = try EventLoop()
            let tasks = (0..<3).map { _ in Task { try await loop.sleep(for: .seconds(600)) } }
            // Its timer comes after theirs.
            try await loop.sleep(for: .milliseconds(1))
            loop.shutdown()
            await loop.stopped()
            for task in tasks {
                let error = await #expect(throws: NetworkError.self) { try await task.value }
                #expect(error?.kind == .cancelled)
            }
            await #expect(throws: NetworkError.self) { try await loop.sleep(for: .milliseconds(1)) }
        }

        @Test("Scheduled work runs on the loop after its delay, or is taken back")
        func schedules() async throws {
            let loop = try EventLoop()
            let log = Log<String>()
            let start = MonotonicTime.now
            let late = loop.schedule(after: .milliseconds(4)) { log.append("late \(loop.isInLoop)") }
            let soon = loop.schedule(after: .milliseconds(1)) { log.append("soon \(loop.isInLoop)") }
            let never = loop.schedule(after: .seconds(600)) { log.append("never") }
            never.cancel()
            try await soon.value
            try await late.value
            #expect(MonotonicTime.now - start >= .milliseconds(4))
            // Which comes first is between them: this thread may have been held up before it asked for the second.
            #expect(log.all.sorted() == ["late true", "soon true"])
            await #expect(throws: NetworkError.self) { try await never.value }
        }

        @Test("A loop tells what it did: waits, events, jobs, timers, and how long it slept")
        func statistics() async throws {
            let loop = try EventLoop()
            let before = loop.statistics
            for _ in 0..<5 { try await loop.sleep(for: .milliseconds(2)) }
            let idle = loop.statistics.since(before)
            #expect(idle.timers == 5)
            #expect(idle.waits >= 5)
            // Held up long enough, the loop finds a timer due already and does not sleep for it.
            #expect(idle.sleeps >= 1)
            #expect(idle.jobs >= 5)
            #expect(idle.idleTime > .zero)
            #expect(idle.idleTime <= idle.totalTime)
            #expect((0...1).contains(idle.busyShare))
            #expect(LoopStatistics().busyShare == 0)
            #expect(LoopStatistics().eventsPerWait == 0)
        }

        @Test("Orderly shutdown of a group: no thread, no descriptor, no waiter is left")
        func shutdown() async throws {
            // Lives on, as do the threads of the global pool, which come when they are needed.
            _ = EventLoopGroup.shared
            let before = openSockets()
            let threads = countThreads(named: "epoll-")
            let descriptors = countEntries("/proc/self/fd")
            do {
                let group = try EventLoopGroup(count: 3)
                #expect(group.count == 3)
                #expect(group.statistics.count == 3)
                var options = ListenerOptions()
                options.group = group
                let listener = try await StreamListener.listen(on: .abstract(name: [1, 2, 3]), options: options)
                let server = Task {
                    try await listener.serve(on: .eventLoop) { for try await _ in $0.inbound {} }
                }
                let client = try await StreamConnection.connect(to: listener.localAddress, on: group.next())
                let reading = Task { try await client.read() }
                group.shutdown()
                await group.stopped()
                // Both are told: by the end of their loop, or by the peer's end if that loop was the first.
                _ = try? await reading.value
                _ = try? await server.value
            }
            await eventually { openSockets().subtracting(before).isEmpty }
            await eventually { countThreads(named: "epoll-") <= threads }
            await eventually { countEntries("/proc/self/fd") <= descriptors }
        }
    }
}
