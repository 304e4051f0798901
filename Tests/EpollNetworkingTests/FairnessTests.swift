// SPDX-License-Identifier: Apache-2.0
import Glibc
import SystemPackage
import Testing

@testable import EpollConcurrency
@testable import EpollNetworking

// FairnessTests: waits that end, turns that are shared, and edges that are not lost.

extension NetworkTests {
    @Suite("Fairness", .timeLimit(.minutes(2)))
    struct FairnessTests {
        // MARK: edges

        @Test("Octets behind urgent data are read without a further event")
        func urgentData() async throws {
            let (client, server) = try await EndingTests.pair(.tcp)
            let descriptor = try #require(client.core.inspect { $0.descriptor })
            for _ in 0..<20 {
                let reading = Task { try await within(.seconds(10)) { try await server.read(exactly: 6) } }
                await eventually { server.isReaderParked }
                // Together, so that one event reports all of it.
                let loop = server.eventLoop
                let isHeld = Locked(true)
                loop.execute { while isHeld.withLock({ $0 }) { sched_yield() } }
                #expect(send(descriptor, "abc", 3, 0) == 3)
                #expect(send(descriptor, "!", 1, CInt(MSG_OOB)) == 1)
                #expect(send(descriptor, "def", 3, 0) == 3)
                isHeld.withLock { $0 = false }
                #expect(try await reading.value == Array("abcdef".utf8))
            }
        }

        @Test("Octets behind a message that carries descriptors are read without a further event")
        func passedDescriptors() async throws {
            let (client, server) = try await EndingTests.pair(.unix)
            let descriptor = try #require(client.core.inspect { $0.descriptor })
            for _ in 0..<20 {
                let reading = Task { try await within(.seconds(10)) { try await server.read(exactly: 6) } }
                await eventually { server.isReaderParked }
                let loop = server.eventLoop
                let isHeld = Locked(true)
                loop.execute { while isHeld.withLock({ $0 }) { sched_yield() } }
                sendWithDescriptor(descriptor, "abc")
                #expect(send(descriptor, "def", 3, 0) == 3)
                isHeld.withLock { $0 = false }
                #expect(try await reading.value == Array("abcdef".utf8))
            }
        }

        private func sendWithDescriptor(_ socket: CInt, _ text: String) {
            var octets = Array(text.utf8)
            // cmsghdr with one descriptor: length, level, type, number (cmsg(3)); 64-bit layout.
            var control = [UInt8](repeating: 0, count: 24)
            control.withUnsafeMutableBytes { bytes in
                bytes.storeBytes(of: 20, toByteOffset: 0, as: Int.self)
                bytes.storeBytes(of: SOL_SOCKET, toByteOffset: 8, as: CInt.self)
                bytes.storeBytes(of: CInt(SCM_RIGHTS), toByteOffset: 12, as: CInt.self)
                bytes.storeBytes(of: 0, toByteOffset: 16, as: CInt.self)
            }
            octets.withUnsafeMutableBytes { octets in
                control.withUnsafeMutableBytes { control in
                    var vector = iovec(iov_base: octets.baseAddress, iov_len: octets.count)
                    withUnsafeMutablePointer(to: &vector) { vector in
                        var message = msghdr()
                        message.msg_iov = vector
                        message.msg_iovlen = 1
                        message.msg_control = control.baseAddress
                        message.msg_controllen = control.count
                        #expect(sendmsg(socket, &message, 0) == octets.count)
                    }
                }
            }
        }

        // MARK: turns

        @Test("A task whose reads and writes never wait leaves others their turn", arguments: [true, false])
        func hose(onLoop: Bool) async throws {
            let group = try EventLoopGroup(count: 1)
            defer { group.shutdown() }
            let loop = group.next()
            var options = ListenerOptions()
            options.group = group
            let listener = try await StreamListener.listen(on: .loopback(port: 0), options: options)
            defer { listener.close() }
            func connects() async throws -> (StreamConnection, StreamConnection) {
                let client = try await StreamConnection.connect(to: listener.localAddress)
                return (client, try #require(try await listener.accept(timeout: .seconds(10))))
            }
            let isOver = Log<Void>()
            let hoses = Log<Void>()
            // Enough of them to hold every thread of the pool.
            let count = onLoop ? 1 : max(2, sysconf(CInt(_SC_NPROCESSORS_ONLN)) + 1)
            var tasks: [Task<Void, Never>] = []
            // Long enough to spoil the times, and no more: with every thread taken nothing would end this test.
            let end = MonotonicTime.now + .seconds(20)
            for _ in 0..<count {
                let (socket, _) = try StreamSocket.pair()
                let core = ConnectionCore(socket, on: loop, name: "", options: SocketOptions())
                core.start()
                let hose = StreamConnection(core)
                tasks.append(
                    Task(executorPreference: onLoop ? loop : nil) {
                        hoses.append(())
                        // Writes of nothing complete at once, for ever.
                        while isOver.all.isEmpty, MonotonicTime.now < end { try? await hose.write([UInt8]()) }
                    }
                )
            }
            let (client, server) = try await connects()
            let echo = Task(executorPreference: onLoop ? loop : nil) {
                for try await chunk in server.inbound { try await server.write(chunk) }
            }
            let times = try await within(.seconds(60)) {
                var times: [Duration] = []
                for _ in 0..<20 {
                    let start = MonotonicTime.now
                    try await client.write([1])
                    _ = try await client.read(exactly: 1)
                    times.append(MonotonicTime.now - start)
                }
                return times.sorted()
            }
            isOver.append(())
            #expect(!hoses.all.isEmpty)
            #expect(times[times.count / 2] < .milliseconds(50), "\(times)")
            client.close()
            try await echo.value
            for task in tasks { await task.value }
        }

        // MARK: deadlines

        static var slow: SocketOptions {
            var options = SocketOptions()
            options.sendBuffer = 32 << 10
            options.receiveBuffer = 32 << 10
            return options
        }

        @Test(
            "The timeout of a write is for progress: a slow reader gets everything, and those queued behind wait for it"
        )
        func progress() async throws {
            var options = Self.slow
            options.writeTimeout = .milliseconds(200)
            let (client, server) = try await EndingTests.pair(.tcp, client: options, server: Self.slow)
            let size = 2 << 20
            let start = MonotonicTime.now
            let writing = Task { try await client.write([UInt8](repeating: 7, count: size)) }
            await eventually { client.isWriterParked }
            let behind = Task {
                try await client.write([8])
                try await client.finish()
            }
            let reading = Task {
                var count = 0
                while let chunk = try await server.read() {
                    count += chunk.count
                    // 64 KiB in 20 ms or more: the whole takes several timeouts.
                    if count % (64 << 10) < chunk.count { try await server.eventLoop.sleep(for: .milliseconds(20)) }
                }
                return count
            }
            try await writing.value
            try await behind.value
            #expect(try await within(.seconds(30)) { try await reading.value } == size + 1)
            #expect(MonotonicTime.now - start > .milliseconds(400))
        }

        @Test(
            "A slow reader is progress also while the kernel, whose buffer is large, reports no room",
            arguments: [EndingTests.Kind.tcp, .tls13]
        )
        func progressWithoutRoom(kind: EndingTests.Kind) async throws {
            let (client, server) = try await EndingTests.pair(kind, server: Self.slow)
            let size = 8 << 20
            let reading = Task {
                var count = 0
                while let chunk = try await server.read() {
                    count += chunk.count
                    if count % (32 << 10) < chunk.count { try await server.eventLoop.sleep(for: .milliseconds(10)) }
                }
                return count
            }
            try await client.write([UInt8](repeating: 7, count: size), timeout: .milliseconds(100))
            try await client.finish()
            #expect(try await within(.seconds(30)) { try await reading.value } == size)
        }

        @Test("`within` limits a write in all, whatever the progress")
        func total() async throws {
            let (client, server) = try await EndingTests.pair(.tcp, client: Self.slow, server: Self.slow)
            let reading = Task {
                while try await server.read() != nil { try await server.eventLoop.sleep(for: .milliseconds(5)) }
            }
            let error = await #expect(throws: NetworkError.self) {
                try await within(.seconds(30)) {
                    try await client.write(
                        [UInt8](repeating: 7, count: 64 << 20),
                        timeout: .seconds(20),
                        within: .milliseconds(100)
                    )
                }
            }
            #expect(error?.kind == .timedOut)
            #expect(error?.leavesConnectionUsable == false)
            try await reading.value
        }

        @Test(
            "Timeouts of reads, writes, finish and accept end them",
            arguments: ["read", "exactly", "write", "finish", "accept"]
        )
        func timeouts(what: String) async throws {
            let small = StreamConnectionTests.small
            let (client, server) = try await EndingTests.pair(.tcp, client: small, server: small)
            let blocked = Task { try await client.write([UInt8](repeating: 7, count: 8 << 20)) }
            await eventually { client.isWriterParked }
            let listener = try await StreamListener.listen(on: .loopback(port: 0))
            let error = await #expect(throws: NetworkError.self) {
                try await within(.seconds(5)) {
                    switch what {
                    case "read": _ = try await client.read(timeout: .milliseconds(20))
                    case "exactly": _ = try await client.read(exactly: 1, timeout: .milliseconds(20))
                    case "write": try await client.write([1], timeout: .milliseconds(20))
                    case "finish": try await client.finish(timeout: .milliseconds(20))
                    default: _ = try await listener.accept(timeout: .milliseconds(20))
                    }
                }
            }
            #expect(error?.kind == .timedOut)
            #expect(error?.leavesConnectionUsable == true)
            if what == "accept" { #expect(error?.text == "Nobody connected in time.") }
            client.abort()
            _ = await blocked.result
            withExtendedLifetime(server) {}
        }

        @Test("A cancelled writer that is queued behind another ends at once, and the others keep their order")
        func cancelledInQueue() async throws {
            let small = StreamConnectionTests.small
            let (client, server) = try await EndingTests.pair(.tcp, client: small, server: small)
            // More than the buffers; each 2 KiB of it is a wait of both ends.
            let first = Task { try await client.write([UInt8](repeating: 7, count: 512 << 10)) }
            await eventually { client.isWriterParked }
            let second = Task { try await client.write([1]) }
            await eventually { client.queuedWriters == 1 }
            let third = Task { try await client.write([2]) }
            await eventually { client.queuedWriters == 2 }
            second.cancel()
            let error = await #expect(throws: NetworkError.self) {
                try await within(.seconds(5)) { try await second.value }
            }
            #expect(error?.kind == .cancelled)
            #expect(error?.leavesConnectionUsable == true)
            #expect(client.queuedWriters == 1)
            let reading = Task { try await server.readAll() }
            try await first.value
            try await third.value
            try await client.finish()
            #expect(try await reading.value.suffix(2) == [7, 2])
        }

        // MARK: the end of a loop

        @Test("The end of a loop is no end of this side's or the peer's: `.cancelled` for all who wait and come later")
        func loopEnds() async throws {
            let group = try EventLoopGroup(count: 1)
            var options = ListenerOptions()
            options.group = group
            let listener = try await StreamListener.listen(on: .loopback(port: 0), options: options)
            let client = try await StreamConnection.connect(to: listener.localAddress)
            let server = try #require(try await listener.accept())
            let reading = Task { try await server.read() }
            let accepting = Task { try await listener.accept() }
            await eventually { server.isReaderParked }
            await eventually { listener.isAccepting }
            group.shutdown()
            for result in [await reading.result.map { _ in }, await accepting.result.map { _ in }] {
                let error = #expect(throws: NetworkError.self) { try result.get() }
                #expect(error?.kind == .cancelled, "\(error?.text ?? "")")
            }
            await group.stopped()
            for call in ["read", "write", "accept", "serve"] {
                let error = await #expect(throws: NetworkError.self) {
                    switch call {
                    case "read": _ = try await server.read()
                    case "write": try await server.write([1])
                    case "accept": _ = try await listener.accept()
                    default: try await listener.serve { _ in }
                    }
                }
                #expect(error?.kind == .cancelled, "\(call): \(error?.text ?? "")")
            }
            withExtendedLifetime(client) {}
        }

        @Test("A socket that cannot be watched says so")
        func notWatched() async throws {
            let (socket, other) = try StreamSocket.pair()
            let loop = try EventLoop()
            // epoll_ctl(2) refuses a descriptor that is registered already.
            let registered = Promise<Void>()
            let number = socket.descriptor
            loop.execute {
                _ = try? loop.register(number, handler: Handler { _ in })
                registered.fulfil(())
            }
            await registered.value
            let connection = StreamConnection(ConnectionCore(socket, on: loop, name: "", options: SocketOptions()))
            connection.core.start()
            let error = await #expect(throws: NetworkError.self) {
                try await within(.seconds(10)) { _ = try await connection.read() }
            }
            #expect(error?.kind == .other)
            #expect(error?.underlying?.call == "epoll_ctl")
            withExtendedLifetime(other) {}
        }

        @Test("Waiting for the end of a loop can be cancelled")
        func stoppedCancelled() async throws {
            let group = try EventLoopGroup(count: 2)
            let waiting = Task { await group.stopped() }
            waiting.cancel()
            #expect(try await within(.seconds(5)) { await waiting.value } == false)
            group.shutdown()
            #expect(await group.stopped())
        }

        @Test("Without descriptors for the loops calls fail with the reason, and waits do not spin")
        func noLoops() async throws {
            let group = EventLoopGroup(failed: SystemError(errno: .tooManyOpenFiles, call: "epoll_create1"))
            let loop = group.next()
            var options = ListenerOptions()
            options.group = group
            for what in ["connect", "listen", "name"] {
                let error = await #expect(throws: NetworkError.self) {
                    switch what {
                    case "connect": _ = try await StreamConnection.connect(to: .loopback(port: 1), on: loop)
                    case "name": _ = try await StreamConnection.connect(to: .host("127.0.0.1", port: 1), on: loop)
                    default: _ = try await StreamListener.listen(on: .loopback(port: 0), options: options)
                    }
                }
                #expect(error?.underlying?.errno == .tooManyOpenFiles, "\(what)")
            }
            let start = MonotonicTime.now
            try await loop.sleep(for: .milliseconds(20))
            #expect(MonotonicTime.now - start >= .milliseconds(20))
            #expect(await Task(executorPreference: loop) { 1 }.value == 1)
        }
    }
}

extension StreamConnection {
    var queuedWriters: Int { self.core.flow.withLock { $0.queuedCount } }
}

extension StreamListener {
    var isAccepting: Bool {
        self.acceptors[0].core.flow.withLock { if case .parked = $0.reader { true } else { false } }
    }
}
