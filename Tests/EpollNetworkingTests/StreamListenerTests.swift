// SPDX-License-Identifier: Apache-2.0
import Glibc
import SystemPackage
import Testing

@testable import EpollConcurrency
@testable import EpollNetworking

// StreamListenerTests: servers, with test clients. A lack of descriptors is put in the place of accept(2): a real
// one would take the test runner's own.

extension NetworkTests {
    @Suite("Stream listener", .timeLimit(.minutes(5)))
    struct StreamListenerTests {
        @Test("An echo server and its client, as the documentation shows them", arguments: [false, true])
        func echo(onLoop: Bool) async throws {
            try await TCPListener.withListener(on: .host("127.0.0.1", port: 0)) { listener in
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask {
                        try await listener.serve(on: onLoop ? .eventLoop : .inherited) { connection in
                            for try await chunk in connection.inbound { try await connection.write(chunk) }
                            try await connection.finish()
                        }
                    }
                    for _ in 0..<20 {
                        try await TCPConnection.withConnection(to: listener.localAddress) { connection in
                            try await connection.write("hello\n")
                            try await connection.finish()
                            var text = ""
                            for try await chunk in connection.inbound { text += String(decoding: chunk, as: UTF8.self) }
                            #expect(text == "hello\n")
                        }
                    }
                    listener.close()
                    try await group.waitForAll()
                }
            }
        }

        @Test("A handler that throws resets its own connection, is reported, and the others continue")
        func handlerThrows() async throws {
            struct Odd: Error {}
            let errors = Log<String>()
            try await StreamListener.withListener(on: .loopback(port: 0)) { listener in
                async let served: Void = listener.serve(onError: { errors.append("\($0)") }) { connection in
                    guard try await connection.read(exactly: 1) == [1] else { throw Odd() }
                    try await connection.write([2])
                }
                for octet: UInt8 in [0, 1, 0, 1] {
                    try await StreamConnection.withConnection(to: listener.localAddress) { client in
                        try await client.write([octet])
                        if octet == 1 {
                            #expect(try await client.readAll() == [2])
                        } else {
                            let error = await #expect(throws: NetworkError.self) { _ = try await client.read() }
                            #expect(error?.kind == .reset)
                        }
                    }
                }
                listener.close()
                try await served
                #expect(errors.all == ["Odd()", "Odd()"])
            }
        }

        @Test("A closed listener accepts no connection, also on a separate loop", arguments: [true, false])
        func closedForAll(isTCP: Bool) async throws {
            var options = ListenerOptions()
            let group = try EventLoopGroup(count: 2)
            options.group = group
            for round in UInt8(0)..<20 {
                let name = Array("epoll-net-closed-\(getpid())".utf8) + [round]
                let address: SocketAddress = isTCP ? .loopback(port: 0) : .abstract(name: name)
                let listener = try await StreamListener.listen(on: address, options: options)
                // Its loop is held up: what it has been told to do, it has not done yet.
                let isHeld = Locked(true)
                let loop = listener.acceptors[0].core.loop
                loop.execute { while isHeld.withLock({ $0 }) { sched_yield() } }
                listener.close()
                let client = try StreamSocket(family: listener.localAddress.family)
                var refusal: SystemError?
                do throws(SystemError) {
                    if try !client.beginConnect(to: listener.localAddress) {
                        await ready(client.descriptor, POLLOUT)
                        refusal = client.takePendingError()
                    }
                } catch { refusal = error }
                isHeld.withLock { $0 = false }
                try await EpollNetworkingTests.onLoop(loop) {}
                try #require(refusal?.errno == .connectionRefused)
            }
            group.shutdown()
            await group.stopped()
        }

        @Test("Closing lets handlers finish; shutting down cancels those that outlast the grace period")
        func graceful() async throws {
            var options = ListenerOptions()
            let group = try EventLoopGroup(count: 3)
            options.group = group
            defer { group.shutdown() }
            for grace in [Duration?.none, .milliseconds(20)] {
                let ended = Log<String>()
                try await StreamListener.withListener(on: .loopback(port: 0), options: options) { listener in
                    async let served: Void = listener.serve { connection in
                        do {
                            _ = try await connection.read()
                            ended.append("read")
                        } catch { ended.append("\((error as? NetworkError)?.kind.description ?? "?")") }
                    }
                    let client = try await StreamConnection.connect(to: listener.localAddress)
                    await eventually { listener.gate.active == 1 }
                    if let grace { listener.shutdown(within: grace) } else { listener.close() }
                    let refused = await #expect(throws: NetworkError.self) {
                        _ = try await StreamConnection.connect(to: listener.localAddress, timeout: .seconds(5))
                    }
                    #expect(refused?.kind == .refused)
                    if grace == nil { try await client.write([1]) }
                    try await served
                }
                #expect(ended.all == (grace == nil ? ["read"] : ["cancelled"]))
            }
        }

        @Test(
            "Shutting down after a close, and again with a shorter time, cancels handlers in that time",
            arguments: [true, false]
        )
        func gracefulAgain(afterClose: Bool) async throws {
            let ended = Log<String>()
            try await StreamListener.withListener(on: .loopback(port: 0)) { listener in
                async let served: Void = listener.serve { connection in
                    do {
                        _ = try await connection.read()
                        ended.append("read")
                    } catch { ended.append("\((error as? NetworkError)?.kind.description ?? "?")") }
                }
                let client = try await StreamConnection.connect(to: listener.localAddress)
                await eventually { listener.gate.active == 1 }
                if afterClose { listener.close() } else { listener.shutdown(within: .seconds(100)) }
                await eventually { listener.gate.isEndAwaited }
                listener.shutdown(within: .milliseconds(10))
                // A longer time is none.
                listener.shutdown(within: .seconds(100))
                try await served
                withExtendedLifetime(client) {}
            }
            #expect(ended.all == ["cancelled"])
        }

        @Test("Listening on a group that was shut down fails like every other call on it")
        func endedGroup() async throws {
            var options = ListenerOptions()
            let group = try EventLoopGroup(count: 2)
            options.group = group
            group.shutdown()
            await group.stopped()
            let error = await #expect(throws: NetworkError.self) {
                _ = try await StreamListener.listen(on: .loopback(port: 0), options: options)
            }
            #expect(error?.kind == .cancelled)
        }

        @Test("Cancelling the server cancels its handlers and leaves nothing behind")
        func cancelled() async throws {
            let before = openSockets()
            let kinds = Log<String>()
            do {
                let listener = try await StreamListener.listen(on: .loopback(port: 0))
                let server = Task {
                    try await listener.serve { connection in
                        do { _ = try await connection.read() } catch {
                            kinds.append("\((error as? NetworkError)!.kind)")
                        }
                    }
                }
                var clients: [StreamConnection] = []
                for _ in 0..<10 { clients.append(try await StreamConnection.connect(to: listener.localAddress)) }
                await eventually { listener.gate.active == 10 }
                server.cancel()
                let error = await #expect(throws: NetworkError.self) { try await server.value }
                #expect(error?.kind == .cancelled)
                #expect(kinds.all == [String](repeating: "cancelled", count: 10))
                withExtendedLifetime(clients) {}
            }
            await eventually { openSockets().subtracting(before).isEmpty }
        }

        @Test("No more connections are served at once than allowed; the others wait their turn")
        func limited() async throws {
            var options = ListenerOptions()
            options.maximumConnections = 2
            let most = Log<Int>()
            try await StreamListener.withListener(on: .loopback(port: 0), options: options) { listener in
                async let served: Void = listener.serve { connection in
                    most.append(listener.gate.active)
                    for try await chunk in connection.inbound { try await connection.write(chunk) }
                }
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for _ in 0..<12 {
                        group.addTask {
                            try await StreamConnection.withConnection(to: listener.localAddress) { client in
                                try await client.write([1])
                                #expect(try await client.read(exactly: 1) == [1])
                            }
                        }
                    }
                    try await group.waitForAll()
                }
                listener.close()
                try await served
            }
            #expect(most.all.count == 12)
            #expect(most.all.allSatisfy { $0 <= 2 })
        }

        @Test("Several sockets share a port, one per loop, and each gets connections")
        func reusePort() async throws {
            var options = ListenerOptions()
            options.reusePort = true
            options.group = try EventLoopGroup(count: 3)
            let loops = Log<String>()
            try await StreamListener.withListener(on: .loopback(port: 0), options: options) { listener in
                #expect(listener.acceptors.count == 3)
                async let served: Void = listener.serve(on: .eventLoop) { connection in
                    #expect(connection.eventLoop.isInLoop)
                    loops.append(connection.eventLoop.name)
                    try await connection.finish()
                    _ = try await connection.read()
                }
                for _ in 0..<200 {
                    try await StreamConnection.withConnection(to: listener.localAddress) { client in
                        let chunk = try await client.read()
                        #expect(chunk == nil)
                    }
                }
                listener.close()
                try await served
            }
            #expect(loops.all.count == 200)
            #expect(Set(loops.all).count == 3)
            options.group?.shutdown()
        }

        @Test("accept() takes from every socket that shares the port", arguments: [1, 3])
        func reusePortAccept(loops: Int) async throws {
            var options = ListenerOptions()
            options.reusePort = true
            let group = try EventLoopGroup(count: loops)
            defer { group.shutdown() }
            options.group = group
            let listener = try await StreamListener.listen(on: .loopback(port: 0), options: options)
            let address = listener.localAddress
            let accepting = Task {
                var count: UInt8 = 0
                while let connection = try await listener.accept(timeout: .seconds(10)) {
                    count += 1
                    try await connection.write([count])
                }
                return count
            }
            var answers: Set<UInt8> = []
            for _ in 0..<40 {
                let client = try await StreamConnection.connect(to: address)
                answers.insert(try #require(try await within(.seconds(10)) { try await client.read(exactly: 1) })[0])
            }
            #expect(answers.count == 40)
            listener.close()
            #expect(try await within(.seconds(10)) { try await accepting.value } == 40)
            let late = try await StreamListener.listen(on: .loopback(port: 0), options: options)
            let error = await #expect(throws: NetworkError.self) {
                _ = try await late.accept(timeout: .milliseconds(20))
            }
            #expect(error?.kind == .timedOut)
        }

        @Test("Of servers that start together over a stale file, one listens; the file is its own")
        func staleRace() async throws {
            let path = "/tmp/epoll-net-race-\(getpid())"
            defer { unlink(path) }
            for _ in 0..<30 {
                unlink(path)
                try ListeningSocket(.unix(path: path)).close()
                let listeners = await withTaskGroup(of: StreamListener?.self) { group in
                    for _ in 0..<8 { group.addTask { try? await StreamListener.listen(on: .unix(path: path)) } }
                    var listeners: [StreamListener] = []
                    for await listener in group { if let listener { listeners.append(listener) } }
                    return listeners
                }
                #expect(listeners.count == 1)
                let client = try await StreamConnection.connect(to: .unix(path: path))
                let server = try await listeners.first?.accept(timeout: .seconds(5))
                #expect(server != nil)
                client.close()
                listeners.first?.close()
                #expect(access(path, F_OK) != 0)
            }
        }

        @Test("A full backlog of a Unix listener is waited for, until the deadline")
        func fullBacklog() async throws {
            let address = SocketAddress.abstract(name: Array("epoll-net-full-\(getpid())".utf8))
            var options = ListenerOptions()
            options.backlog = 1
            let listener = try await StreamListener.listen(on: address, options: options)
            var waiting: [StreamSocket] = []
            var isFull = false
            while !isFull {
                let socket = try StreamSocket(family: AF_UNIX)
                do throws(SystemError) {
                    _ = try socket.beginConnect(to: address)
                    waiting.append(socket)
                } catch { isFull = true }
            }
            let start = MonotonicTime.now
            let late = await #expect(throws: NetworkError.self) {
                _ = try await StreamConnection.connect(to: address, timeout: .milliseconds(60))
            }
            #expect(late?.kind == .timedOut)
            #expect(late?.text.contains("backlog") == true, "\(late?.text ?? "")")
            #expect(MonotonicTime.now - start >= .milliseconds(60))
            let connecting = Task { try await StreamConnection.connect(to: address, timeout: .seconds(20)) }
            try await EventLoop.shared.sleep(for: .milliseconds(5))
            for _ in 0...waiting.count { _ = try await listener.accept(timeout: .seconds(5)) }
            _ = try await connecting.value
        }

        @Test("A Unix socket needs a path: the empty one is not the abstract name of one zero")
        func emptyPath() async throws {
            for isListening in [true, false] {
                let error = await #expect(throws: NetworkError.self) {
                    if isListening {
                        _ = try await StreamListener.listen(on: .unix(path: ""))
                    } else {
                        _ = try await StreamConnection.connect(to: .unix(path: ""))
                    }
                }
                #expect(error?.underlying?.errno == .invalidArgument)
            }
        }

        @Test("A server out of descriptors says so, and tries again after a pause, not at once")
        func shortageIsTold() async throws {
            let attempts = Log<Void>()
            let listener = try StreamListener(.loopback(port: 0), ListenerOptions()) { (_) throws(SystemError) in
                attempts.append(())
                throw SystemError(errno: .tooManyOpenFiles, call: "accept4")
            }
            let errors = Log<NetworkError>()
            let serving = Task {
                try await listener.serve(onError: { if let error = $0 as? NetworkError { errors.append(error) } }) {
                    _ in
                }
            }
            let client = try await StreamConnection.connect(to: listener.localAddress)
            await eventually { !errors.all.isEmpty }
            #expect(listener.isExhausted)
            #expect(errors.all.first?.underlying?.errno == .tooManyOpenFiles)
            #expect(errors.all.first?.text.contains("ulimit") == true)
            let before = attempts.all.count
            try await EventLoop.shared.sleep(for: .milliseconds(350))
            #expect(attempts.all.count - before <= 5)
            // Turned away in the end, which is told too.
            #expect(try await within(.seconds(20)) { try await client.read() } == nil)
            await eventually { errors.all.count == 2 }
            #expect(listener.turnedAwayCount == 1)
            listener.close()
            try await serving.value
        }

        @Test("Handlers see the task-local values and the executor of the server, and many of them end in any order")
        func manyHandlers() async throws {
            let loop = try EventLoop()
            let listener = try await StreamListener.listen(on: .loopback(port: 0))
            let serving = Task(executorPreference: loop) {
                try await Self.$mark.withValue(7) {
                    try await listener.serve { connection in
                        #expect(Self.mark == 7)
                        #expect(loop.isInLoop)
                        _ = try await connection.read()
                    }
                }
            }
            var clients: [StreamConnection] = []
            for _ in 0..<300 { clients.append(try await StreamConnection.connect(to: listener.localAddress)) }
            await eventually { listener.gate.active == 300 }
            clients.shuffle()
            while let client = clients.popLast() { client.close() }
            await eventually { listener.gate.active == 0 }
            listener.close()
            try await serving.value
        }

        @TaskLocal static var mark = 0

        @Test("A stale Unix socket file is replaced; one in use, or another kind of file, is left alone")
        func staleFile() async throws {
            let path = "/tmp/epoll-net-listener-\(getpid())"
            unlink(path)
            defer { unlink(path) }
            // A socket whose process is gone: bound, never listening again.
            try ListeningSocket(.unix(path: path)).close()
            #expect(access(path, F_OK) == 0)
            var options = ListenerOptions()
            options.permissions = 0o600
            try await UnixListener.withListener(on: .unix(path: path), options: options) { listener in
                var status = stat()
                #expect(lstat(path, &status) == 0)
                #expect(status.st_mode & 0o777 == 0o600)
                let second = await #expect(throws: NetworkError.self) {
                    _ = try await UnixListener.listen(on: .unix(path: path))
                }
                #expect(second?.underlying?.errno == .addressInUse)
                let client = try await UnixConnection.connect(to: .unix(path: path))
                #expect(try await listener.accept(timeout: .seconds(5)) != nil)
                client.close()
            }
            #expect(access(path, F_OK) != 0)
            let file = open(path, O_CREAT | O_WRONLY, 0o600)
            close(file)
            let regular = await #expect(throws: NetworkError.self) {
                _ = try await UnixListener.listen(on: .unix(path: path))
            }
            #expect(regular?.underlying?.errno == .addressInUse)
            #expect(access(path, F_OK) == 0)
        }

        @Test("A closed listener does not remove the file of its successor")
        func successorFile() async throws {
            let path = "/tmp/epoll-net-successor-\(getpid())"
            unlink(path)
            let first = try await UnixListener.listen(on: .unix(path: path))
            unlink(path)
            let second = try await UnixListener.listen(on: .unix(path: path))
            first.close()
            #expect(access(path, F_OK) == 0)
            second.close()
            #expect(access(path, F_OK) != 0)
        }

        @Test(
            "An address that cannot be listened on is refused in words",
            arguments: [
                (SocketAddress.ipv4(address: [192, 0, 2, 1], port: 0), Errno.addressNotAvailable),
                (.unix(path: "/nowhere/at/all"), .noSuchFileOrDirectory),
                (.unix(path: String(repeating: "p", count: 200)), .fileNameTooLong),
            ]
        )
        func refused(address: SocketAddress, errno: Errno) async throws {
            let before = openSockets()
            let error = await #expect(throws: NetworkError.self) { _ = try await StreamListener.listen(on: address) }
            #expect(error?.underlying?.errno == errno)
            #expect(openSockets().subtracting(before).isEmpty)
        }

        @Test("F23: out of descriptors the listener pauses, and accepts when there are some again")
        func exhausted() async throws {
            let isShort = Locked(true)
            let listener = try StreamListener(.loopback(port: 0), ListenerOptions()) { (socket) throws(SystemError) in
                if isShort.withLock({ $0 }) { throw SystemError(errno: .tooManyOpenFiles, call: "accept4") }
                return try socket.accept()
            }
            async let served: Void = listener.serve { _ = try await $0.read() }
            let client = try await StreamConnection.connect(to: listener.localAddress)
            await eventually { listener.acceptors[0].isExhausted }
            #expect(listener.gate.active == 0)
            isShort.withLock { $0 = false }
            await eventually { listener.gate.active == 1 }
            #expect(!listener.acceptors[0].isExhausted)
            #expect(listener.acceptors[0].turnedAway == 0)
            client.close()
            listener.close()
            try await served
        }

        @Test("When descriptors stay short, those who wait are turned away through the reserve, and no loop spins")
        func turnsAway() async throws {
            var options = ListenerOptions()
            let group = try EventLoopGroup(count: 1)
            options.group = group
            let listener = try StreamListener(.loopback(port: 0), options) { (_) throws(SystemError) in
                throw SystemError(errno: .tooManyOpenFiles, call: "accept4")
            }
            async let served: Void = listener.serve { _ in Issue.record("nobody can be accepted") }
            let clients = [
                try await StreamConnection.connect(to: listener.localAddress),
                try await StreamConnection.connect(to: listener.localAddress),
            ]
            let before = group.next().statistics
            for client in clients { #expect(try await client.read() == nil) }
            await eventually { listener.acceptors[0].turnedAway == 2 }
            // One look every tenth of a second for about a second, each a timer and its start.
            #expect(group.next().statistics.since(before).waits < 200)
            listener.close()
            try await served
            group.shutdown()
        }

        @Test("Fifty thousand connects and closes leave no descriptor, no registration and no memory")
        func churn() async throws {
            let before = openSockets()
            let group = try EventLoopGroup(count: 2)
            var options = ListenerOptions()
            options.group = group
            let name = SocketAddress.abstract(name: Array("epoll-net-churn-\(getpid())".utf8))
            for address in [SocketAddress.loopback(port: 0), name] {
                try await StreamListener.withListener(on: address, options: options) { listener in
                    async let served: Void = listener.serve { connection in
                        for try await chunk in connection.inbound { try await connection.write(chunk) }
                    }
                    func connects(_ count: Int) async throws {
                        try await withThrowingTaskGroup(of: Void.self) { tasks in
                            for _ in 0..<8 {
                                tasks.addTask {
                                    for _ in 0..<count / 8 {
                                        let client = try await StreamConnection.connect(
                                            to: listener.localAddress,
                                            on: group.next()
                                        )
                                        try await client.write([1])
                                        #expect(try await client.read(exactly: 1) == [1])
                                        // A reset, so that no port is left waiting.
                                        client.abort()
                                    }
                                }
                            }
                            try await tasks.waitForAll()
                        }
                    }
                    try await connects(1000)
                    await eventually { listener.gate.active == 0 }
                    let memory = try allocatedOctets()
                    try await connects(25_000)
                    await eventually { listener.gate.active == 0 }
                    // A quarter of what one object per connection would take.
                    #expect(try allocatedOctets() - memory < 2 << 20)
                    listener.close()
                    try await served
                }
            }
            await eventually { openSockets().subtracting(before).isEmpty }
            for _ in 0..<2 {
                let loop = group.next()
                #expect(try await EpollNetworkingTests.onLoop(loop) { loop.core.registrationCount } == 0)
            }
            group.shutdown()
        }
    }
}
