// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import EpollNetworking
import Glibc
import Testing

// EventLoopTests: the promises of the loop, each by the means a user has. No sleeps: a test waits for what it caused.

extension NetworkTests {
    @Suite("Event loop", .timeLimit(.minutes(1)))
    struct EventLoopTests {
        @Test("Work queued by another thread wakes a sleeping loop and runs on its thread")
        func wakes() async throws {
            let loop = try EventLoop(name: "wakes")
            #expect(!loop.isInLoop)
            for _ in 0..<1000 {
                let promise = Promise<Bool>()
                loop.enqueue(Work { promise.fulfil(loop.isInLoop) })
                #expect(await promise.value)
            }
        }

        @Test("Wake-ups are coalesced: a burst costs one system call at most")
        func coalesces() async throws {
            let loop = try EventLoop(name: "coalesces")
            // The loop is held awake, so that the burst must not wake it at all.
            let entered = Promise<Void>()
            let gate = Locked(false)
            loop.execute {
                entered.fulfil(())
                while !gate.withLock({ $0 }) { sched_yield() }
            }
            await entered.value
            let before = loop.wakeUps
            let done = Promise<Void>()
            let count = Log<Int>()
            for index in 0..<10_000 {
                loop.enqueue(
                    Work {
                        count.append(index)
                        if index == 9999 { done.fulfil(()) }
                    }
                )
            }
            #expect(loop.wakeUps == before)
            gate.withLock { $0 = true }
            await done.value
            #expect(loop.wakeUps == before)
            #expect(count.all == Array(0..<10_000))
        }

        @Test("No work is lost when many threads queue at once")
        func manyProducers() async throws {
            let loop = try EventLoop(name: "producers")
            let log = Log<Int>()
            let done = Promise<Void>()
            await withTaskGroup(of: Void.self) { group in
                for producer in 0..<8 {
                    group.addTask {
                        for index in 0..<2000 {
                            loop.enqueue(Work { log.append(producer * 2000 + index) })
                            if index % 100 == 0 { await Task.yield() }
                        }
                    }
                }
            }
            loop.execute { done.fulfil(()) }
            await done.value
            #expect(log.all.count == 16_000)
            for producer in 0..<8 {
                let mine = log.all.filter { $0 / 2000 == producer }
                #expect(mine == mine.sorted())
            }
        }

        @Test("Timers fire in order and not early")
        func timers() async throws {
            let loop = try EventLoop(name: "timers")
            let log = Log<(Int, Duration)>()
            let done = Promise<Void>()
            loop.execute {
                let start = MonotonicTime.now
                for (index, delay) in [30, 10, 20, 0, 10].enumerated() {
                    let deadline = start + .milliseconds(delay)
                    loop.schedule(
                        Work {
                            log.append((index, MonotonicTime.now - deadline))
                            if index == 0 { done.fulfil(()) }
                        },
                        at: deadline
                    )
                }
            }
            await done.value
            #expect(log.all.map(\.0) == [3, 1, 4, 2, 0])
            #expect(log.all.allSatisfy { $0.1 >= .zero })
        }

        @Test("Near timers are on time while the loop sleeps for one that is far off, and far ones after near ones")
        func timersFarAndNear() async throws {
            let loop = try EventLoop(name: "far")
            let log = Log<(Int, Duration)>()
            let done = Promise<Void>()
            let schedule = { @Sendable (delay: Int) in
                let deadline = MonotonicTime.now + .milliseconds(delay)
                loop.schedule(Work { log.append((delay, MonotonicTime.now - deadline)) }, at: deadline)
            }
            loop.execute {
                // Longer than the time limit of the suite: the loop sleeps for it.
                loop.schedule(Work {}, at: .now + .seconds(600))
                loop.schedule(Work {}, at: .distantFuture)
                let now = MonotonicTime.now
                loop.schedule(
                    Work {
                        // Deadlines in the loop's timer descriptor, and as a timeout.
                        for delay in [60, 20, 2] { _ = schedule(delay) }
                        let last = MonotonicTime.now + .milliseconds(70)
                        loop.schedule(Work { done.fulfil(()) }, at: last)
                    },
                    at: now + .milliseconds(15)
                )
            }
            await done.value
            #expect(log.all.map(\.0) == [2, 20, 60])
            #expect(log.all.allSatisfy { $0.1 >= .zero })
        }

        @Test("A cancelled timer does not fire")
        func cancelTimer() async throws {
            let loop = try EventLoop(name: "cancel")
            let log = Log<String>()
            let done = Promise<Void>()
            loop.execute {
                let now = MonotonicTime.now
                let victim = loop.schedule(Work { log.append("victim") }, at: now + .milliseconds(3))
                loop.schedule(Work { loop.cancel(victim) }, at: now + .milliseconds(1))
                loop.schedule(Work { done.fulfil(()) }, at: now + .milliseconds(6))
            }
            await done.value
            #expect(log.all.isEmpty)
        }

        @Test("End-of-tick work runs once, after the jobs and before the next wait")
        func endOfTick() async throws {
            let loop = try EventLoop(name: "tick")
            let log = Log<String>()
            let done = Promise<Void>()
            loop.execute {
                loop.atEndOfTick(
                    Work {
                        log.append("end")
                        loop.execute { done.fulfil(()) }
                    }
                )
                loop.execute { log.append("job") }
                log.append("first")
            }
            await done.value
            #expect(log.all == ["first", "job", "end"])
        }

        @Test("The last job of a turn may end the tick at once, one with others behind it may not")
        func endTickIfIdle() async throws {
            let loop = try EventLoop(name: "idle")
            let log = Log<String>()
            let done = Promise<Void>()
            loop.execute {
                loop.atEndOfTick(Work { log.append("end") })
                loop.execute {
                    loop.endTickIfIdle()
                    log.append("last")
                    done.fulfil(())
                }
                loop.endTickIfIdle()
                log.append("first")
            }
            loop.endTickIfIdle()
            await done.value
            #expect(log.all == ["first", "end", "last"])
        }

        @Test("Readiness that exists at registration is reported, and later octets as an edge")
        func readiness() async throws {
            let loop = try EventLoop(name: "ready")
            let (client, server) = try await connectedPair(loop)
            let writable = Promise<Void>()
            let received = Promise<[UInt8]>()
            let handler = Handler { events in
                if events.contains(.writable) { writable.fulfil(()) }
                if events.contains(.readable) { received.fulfil(server.receive().1) }
            }
            let id = try await onLoop(loop) { try loop.register(server.descriptor, handler: handler) }
            await writable.value
            #expect(client.send([1, 2, 3]) == .count(3))
            #expect(await received.value == [1, 2, 3])
            _ = try await onLoop(loop) { loop.deregister(id) }
        }

        @Test("What can be read is not reported where it is not asked for, the end is, and the octets are later")
        func readableUnreported() async throws {
            let loop = try EventLoop(name: "unreported")
            let (client, server) = try await connectedPair(loop)
            let log = Log<ReadyEvents>()
            let handler = Handler { log.append($0) }
            let id = try await onLoop(loop) {
                let id = try loop.register(server.descriptor, handler: handler)
                loop.setReportsReadable(false, of: id)
                return id
            }
            #expect(client.send([1, 2, 3]) == .count(3))
            client.finishWriting()
            // The end comes behind the octets.
            await eventually { log.all.contains(where: \.isHangup) }
            #expect(!log.all.contains { $0.has(.readable) })
            try await onLoop(loop) { loop.setReportsReadable(true, of: id) }
            await eventually { log.all.contains { $0.has(.readable) } }
            #expect(server.receive().1 == [1, 2, 3])
            try await onLoop(loop) { loop.deregister(id) }
            // Gone: nothing happens.
            try await onLoop(loop) { loop.setReportsReadable(true, of: id) }
        }

        @Test("The end of the peer is reported as a hangup")
        func hangup() async throws {
            let loop = try EventLoop(name: "hangup")
            let (client, server) = try await connectedPair(loop)
            let promise = Promise<Void>()
            let handler = Handler { if $0.isHangup { promise.fulfil(()) } }
            let id = try await onLoop(loop) { try loop.register(server.descriptor, handler: handler) }
            client.finishWriting()
            await promise.value
            #expect(await server.arrived().0 == .endOfStream)
            _ = try await onLoop(loop) { loop.deregister(id) }
        }

        @Test("A handler that removes the others during dispatch is the only one called")
        func modificationDuringDispatch() async throws {
            let loop = try EventLoop(name: "dispatch")
            let pairs = [
                try await connectedPair(loop), try await connectedPair(loop), try await connectedPair(loop),
            ]
            let log = Log<Int>()
            let ids = Locked<[RegistrationID]>([])
            // All three are writable at once, so one batch holds three events.
            try await onLoop(loop) {
                for (index, pair) in pairs.enumerated() {
                    let handler = Handler { _ in
                        log.append(index)
                        for id in ids.withLock({ $0 }) { loop.deregister(id) }
                    }
                    let id = try loop.register(pair.server.descriptor, handler: handler)
                    ids.withLock { $0.append(id) }
                }
            }
            await eventually { !log.all.isEmpty }
            try await twoTurns(of: loop)
            #expect(log.all.count == 1)
            withExtendedLifetime(pairs) {}
        }

        @Test("An event of an earlier owner of the descriptor is not delivered to the next")
        func staleGeneration() async throws {
            let loop = try EventLoop(name: "stale")
            // Their peers are kept: an end would be one more event.
            let (firstPeer, first) = try await connectedPair(loop)
            let (secondPeer, second) = try await connectedPair(loop)
            let owners = Log<String>()
            let ids = Locked<[CInt: RegistrationID]>([:])
            try await onLoop(loop) {
                // One batch holds both; the first called replaces the other's registration under the same number.
                for socket in [first, second] {
                    let handler = Handler { _ in
                        owners.append("old")
                        let other = socket === first ? second : first
                        guard let id = ids.withLock({ $0.removeValue(forKey: other.descriptor) }) else { return }
                        loop.deregister(id)
                        _ = try? loop.register(other.descriptor, handler: Handler { _ in owners.append("new") })
                    }
                    let id = try loop.register(socket.descriptor, handler: handler)
                    ids.withLock { $0[socket.descriptor] = id }
                }
            }
            await eventually { owners.all.count >= 2 }
            try await twoTurns(of: loop)
            withExtendedLifetime((firstPeer, secondPeer)) {}
            #expect(owners.all.first == "old")
            #expect(owners.all.filter { $0 == "old" }.count == 1)
            #expect(owners.all.filter { $0 == "new" }.count == 1)
            loop.shutdown()
            await loop.stopped()
        }

        @Test("A deregistered handler is released")
        func releasesHandler() async throws {
            let loop = try EventLoop(name: "release")
            let (_, server) = try await connectedPair(loop)
            let gone = Promise<Void>()
            final class Owner: SocketHandler, Sendable {
                let gone: Promise<Void>
                init(_ gone: Promise<Void>) { self.gone = gone }
                func socketReady(_ events: ReadyEvents) {}
                deinit { self.gone.fulfil(()) }
            }
            try await onLoop(loop) {
                let id = try loop.register(server.descriptor, handler: Owner(gone))
                loop.deregister(id)
            }
            await gone.value
        }

        @Test("A bad descriptor is an error, not a registration")
        func badDescriptor() async throws {
            let loop = try EventLoop(name: "bad")
            for descriptor in [CInt(-1), 1_000_000] {
                await #expect(throws: SystemError.self) {
                    try await onLoop(loop) { _ = try loop.register(descriptor, handler: Handler { _ in }) }
                }
            }
        }

        @Test("A task that prefers the loop runs on its thread, also after suspending")
        func executor() async throws {
            let loop = try EventLoop(name: "executor")
            let places = await withTaskExecutorPreference(loop) {
                let before = loop.isInLoop
                await Task.yield()
                return [before, loop.isInLoop]
            }
            #expect(places == [true, true])
        }

        @Test("The thread ends on shutdown, and work is refused from then on")
        func shutdown() async throws {
            let loop = try EventLoop(name: "shutdown")
            let ran = Promise<Void>()
            loop.enqueue(Work { ran.fulfil(()) })
            loop.shutdown()
            await loop.stopped()
            await ran.value
            #expect(!loop.enqueue(Work { Issue.record("ran after the end") }))
            // A task that prefers an ended loop still makes progress.
            await withTaskExecutorPreference(loop) { await Task.yield() }
        }

        @Test("Registered handlers get a last call at shutdown")
        func lastCall() async throws {
            let loop = try EventLoop(name: "last")
            let (_, server) = try await connectedPair(loop)
            let log = Log<ReadyEvents>()
            try await onLoop(loop) { _ = try loop.register(server.descriptor, handler: Handler { log.append($0) }) }
            loop.shutdown()
            await loop.stopped()
            #expect(log.all.last == .loopStopped)
        }

        @Test("The thread and the descriptors go when the last owner does")
        func lastOwner() async throws {
            _ = EventLoopGroup.shared
            let descriptors = countEntries("/proc/self/fd")
            for _ in 0..<20 {
                let loop = try EventLoop(name: "owner")
                #expect(try await onLoop(loop) { loop.isInLoop })
            }
            await eventually { countThreads(named: "owner") == 0 }
            await eventually { countEntries("/proc/self/fd") <= descriptors }
        }

        @Test("A group hands out its loops in turn")
        func group() throws {
            let group = try EventLoopGroup(count: 3)
            let loops = (0..<6).map { _ in ObjectIdentifier(group.next()) }
            #expect(Set(loops).count == 3)
            #expect(loops[0..<3] == loops[3..<6])
            group.shutdown()
        }

        /// Two turns of the loop: what was ready before them has been told.
        private func twoTurns(of loop: EventLoop) async throws {
            for _ in 0..<2 { try await onLoop(loop) {} }
        }
    }
}
