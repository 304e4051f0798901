// SPDX-License-Identifier: Apache-2.0
import Glibc
import SystemPackage
import Testing

@testable import EpollConcurrency
@testable import EpollNetworking

// ConnectorTests: names and addresses to sockets, all on this host. A black hole is a listener with a full queue, which
// leaves a connect without any answer.

extension NetworkTests {
    @Suite("Connector", .timeLimit(.minutes(1)))
    struct ConnectorTests {
        /// A listener whose queue is full: further connects hang.
        ///
        /// How many fit depends on the kernel: so many are begun that some stay on the way.
        private final class BlackHole {
            let listener: ListeningSocket
            let address: SocketAddress
            private var fillers: [StreamSocket] = []

            init() throws {
                self.listener = try ListeningSocket(.loopback(port: 0), backlog: 0)
                self.address = try #require(self.listener.localAddress)
                var onTheWay = 0
                while onTheWay < 4 {
                    try #require(self.fillers.count < 64, "a listener whose queue is never full")
                    let filler = try StreamSocket(family: self.address.family)
                    self.fillers.append(filler)
                    if try filler.beginConnect(to: self.address) { continue }
                    // Loopback connects that succeed do so in microseconds.
                    var entry = pollfd(fd: filler.descriptor, events: Int16(POLLOUT), revents: 0)
                    if poll(&entry, 1, 20) == 0 { onTheWay += 1 }
                }
            }
        }

        private func closedPort() throws -> SocketAddress {
            let listener = try ListeningSocket(.loopback(port: 0))
            defer { listener.close() }
            return try #require(listener.localAddress)
        }

        private var soon: MonotonicTime { .now + .seconds(20) }

        @Test(
            "A host given as a number or a name is connected",
            arguments: [
                ("127.0.0.1", SocketAddress.loopback(port: 0)), ("::1", .loopbackV6(port: 0)),
                ("localhost", .loopback(port: 0)),
            ]
        )
        func connects(host: String, local: SocketAddress) async throws {
            try requireFamily(of: local)
            let loop = try EventLoop()
            let listener = try ListeningSocket(local)
            let port = try #require(listener.localAddress?.port)
            var options = SocketOptions()
            options.keepAlive = true
            options.userTimeout = .seconds(30)
            options.sendBuffer = 256 * 1024
            let socket = try await Connector.connect(host: host, port: port, deadline: soon, on: loop, options: options)
            #expect(socket.peerAddress == listener.localAddress)
            #expect(try await listener.next().peerAddress == socket.localAddress)
        }

        @Test("A Unix socket is connected by path and by abstract name", arguments: [true, false])
        func unix(isAbstract: Bool) async throws {
            let loop = try EventLoop()
            let name = "epoll-networking-test-\(getpid())"
            let path = "/tmp/\(name).sock"
            unlink(path)
            defer { unlink(path) }
            let address: SocketAddress = isAbstract ? .abstract(name: Array(name.utf8)) : .unix(path: path)
            let listener = try ListeningSocket(address)
            let socket = try await Connector.connect(to: address, deadline: soon, on: loop)
            let server = try await listener.next()
            #expect(socket.peerAddress == address)
            #expect(socket.send([1]) == .count(1))
            #expect(await server.arrived().1 == [1])
        }

        @Test("F28: a port nobody listens on is refused, in words that name it")
        func refused() async throws {
            let loop = try EventLoop()
            let address = try closedPort()
            let error = await #expect(throws: NetworkError.self) {
                _ = try await Connector.connect(host: "127.0.0.1", port: address.port ?? 0, deadline: soon, on: loop)
            }
            #expect(error?.kind == .refused)
            #expect(error?.underlying == SystemError(errno: .connectionRefused, call: "connect"))
            #expect(error?.description.contains(address.description) == true)
        }

        @Test("A missing Unix socket is refused and named")
        func missingPath() async throws {
            let loop = try EventLoop()
            let error = await #expect(throws: NetworkError.self) {
                _ = try await Connector.connect(to: .unix(path: "/nowhere/broker"), deadline: soon, on: loop)
            }
            #expect(error?.kind == .refused)
            #expect(error?.description.contains("/nowhere/broker") == true)
        }

        @Test("F28: a host that never answers ends at the deadline")
        func blackHole() async throws {
            let loop = try EventLoop()
            let hole = try BlackHole()
            let deadline = MonotonicTime.now + .milliseconds(60)
            let error = await #expect(throws: NetworkError.self) {
                _ = try await Connector.connect(to: hole.address, deadline: deadline, on: loop)
            }
            #expect(error?.kind == .timedOut)
            #expect(MonotonicTime.now >= deadline)
        }

        @Test("A socket that would connect to itself is a refusal")
        func selfConnect() async throws {
            let loop = try EventLoop()
            // Such a port as the kernel chooses for sockets that connect; it comes round to it by itself.
            let listener = try ListeningSocket(.loopback(port: 0))
            let address = try #require(listener.localAddress)
            let probe = try await Connector.connect(to: address, deadline: soon, on: loop)
            let port = try #require(probe.localAddress?.port) &+ 40
            probe.close()
            for _ in 0..<4000 {
                let socket = try? await Connector.connect(to: .loopback(port: port), deadline: soon, on: loop)
                #expect(socket == nil)
                if socket != nil { break }
            }
        }

        @Test("A second address is tried while the first does not answer")
        func staggered() async throws {
            let loop = try EventLoop()
            let hole = try BlackHole()
            let listener = try ListeningSocket(.loopback(port: 0))
            let good = try #require(listener.localAddress)
            let socket = try await Connector.connect(to: [hole.address, good], deadline: soon, on: loop)
            #expect(socket.peerAddress == good)
        }

        @Test("After a refusal the next address is tried at once")
        func failsOver() async throws {
            let loop = try EventLoop()
            let listener = try ListeningSocket(.loopback(port: 0))
            let good = try #require(listener.localAddress)
            let bad = try closedPort()
            let before = loop.statistics
            let socket = try await Connector.connect(to: [bad, bad, bad, bad, good], deadline: soon, on: loop)
            #expect(socket.peerAddress == good)
            // The timer that begins the next attempt never fired.
            #expect(loop.statistics.since(before).timers == 0)
        }

        @Test("Cancelling a connect ends it at once and closes its sockets")
        func cancels() async throws {
            let loop = try EventLoop()
            let hole = try BlackHole()
            let before = openSockets()
            let address = hole.address
            let task = Task {
                try await Connector.connect(to: [address, address], deadline: .now + .seconds(600), on: loop)
            }
            await eventually { !openSockets().isSubset(of: before) }
            task.cancel()
            let error = await #expect(throws: NetworkError.self) { _ = try await task.value }
            #expect(error?.kind == .cancelled)
            await eventually { openSockets().subtracting(before).isEmpty }
        }

        @Test("The descriptors return to the baseline after wins, losses and refusals")
        func baseline() async throws {
            let loop = try EventLoop()
            let hole = try BlackHole()
            let listener = try ListeningSocket(.loopback(port: 0))
            let good = try #require(listener.localAddress)
            let bad = try closedPort()
            let before = openSockets()
            for _ in 0..<3 {
                _ = try await Connector.connect(to: [hole.address, good], deadline: soon, on: loop)
                _ = try await listener.next()
                _ = try? await Connector.connect(to: bad, deadline: soon, on: loop)
                _ = try? await Connector.connect(to: hole.address, deadline: .now + .milliseconds(5), on: loop)
            }
            await eventually { openSockets().subtracting(before).isEmpty }
        }

        @Test("A connect on a loop that ends is told so")
        func loopEnds() async throws {
            let loop = try EventLoop()
            let hole = try BlackHole()
            let before = openSockets()
            let address = hole.address
            let task = Task { try await Connector.connect(to: address, deadline: .now + .seconds(600), on: loop) }
            await eventually { !openSockets().isSubset(of: before) }
            loop.shutdown()
            let first = await #expect(throws: NetworkError.self) { _ = try await task.value }
            #expect(first?.kind == .cancelled)
            await loop.stopped()
            let second = await #expect(throws: NetworkError.self) {
                _ = try await Connector.connect(to: address, deadline: soon, on: loop)
            }
            #expect(second?.kind == .cancelled)
        }

        @Test("The two families alternate, beginning with the preferred one")
        func interleaves() {
            func v4(_ last: UInt8) -> SocketAddress { .ipv4(address: [10, 0, 0, last], port: 1) }
            func v6(_ last: UInt8) -> SocketAddress {
                .ipv6(address: [UInt8](repeating: 0, count: 15) + [last], port: 1, scope: 0)
            }
            #expect(Connector.interleaved([v6(1), v6(2), v6(3), v4(1)]) == [v6(1), v4(1), v6(2), v6(3)])
            #expect(Connector.interleaved([v4(1), v4(2), v6(1)]) == [v4(1), v6(1), v4(2)])
            #expect(Connector.interleaved([]).isEmpty)
        }
    }

    @Suite("Host resolver", .timeLimit(.minutes(1)))
    struct HostResolverTests {
        @Test(
            "A number is its own address",
            arguments: [
                ("127.0.0.1", SocketAddress.loopback(port: 7)), ("::1", .loopbackV6(port: 7)),
            ]
        )
        func numbers(host: String, address: SocketAddress) async throws {
            let deadline = MonotonicTime.now + .seconds(20)
            #expect(try await HostResolver.resolve(host: host, port: 7, deadline: deadline) == [address])
        }

        @Test("Dead names hold up no other name, and localhost asks nobody")
        func deadNames() async throws {
            let isOver = Log<Void>()
            let running = Log<String>()
            let pool = ResolverPool(limit: HostResolver.threadLimit) { request in
                running.append(request.host)
                if request.host.hasPrefix("dead") { while isOver.all.isEmpty { usleep(1000) } }
                return .success([.loopback(port: request.port)])
            }
            defer { isOver.append(()) }
            var dead: [NetworkOutcome<[SocketAddress]>] = []
            // The same names again, as clients that reconnect ask for them, cost no further thread.
            for index in 0..<400 {
                let outcome = NetworkOutcome<[SocketAddress]>()
                pool.submit(HostResolver.Request(host: "dead-\(index % 40)", port: 1, outcome: outcome))
                dead.append(outcome)
            }
            let good = NetworkOutcome<[SocketAddress]>()
            pool.submit(HostResolver.Request(host: "good", port: 2, outcome: good))
            let found = try await within(.seconds(10)) {
                try await good.value(cancelled: NetworkError(kind: .cancelled, text: ""))
            }
            #expect(found == [.loopback(port: 2)])
            #expect(Set(running.all).count == running.all.count)
            isOver.append(())
            for outcome in dead { await eventually { outcome.isDecided } }
            for name in ["localhost", "LOCALHOST.", "db.localhost"] {
                #expect(HostResolver.loopback(named: name, port: 3)?.last == .loopback(port: 3))
            }
            for name in ["localhost.example", "notlocalhost", "local", ""] {
                #expect(HostResolver.loopback(named: name, port: 3) == nil)
            }
        }

        @Test("localhost is the loopback")
        func localhost() async throws {
            let addresses = try await HostResolver.resolve(host: "localhost", port: 7, deadline: .now + .seconds(20))
            #expect(!addresses.isEmpty)
            #expect(addresses.allSatisfy { $0 == .loopback(port: 7) || $0 == .loopbackV6(port: 7) })
        }

        @Test(
            "What cannot be a host name is refused",
            arguments: ["", "a\0b", "host name", "\u{7F}", "a\n", String(repeating: "a", count: 256)]
        )
        func malformed(host: String) async {
            let error = await #expect(throws: NetworkError.self) {
                _ = try await HostResolver.resolve(host: host, port: 7, deadline: .now + .seconds(20))
            }
            #expect(error?.kind == .resolve)
            // Without asking anybody: a name server that is slow to say no would take its time.
            #expect(error?.text.contains("names no host") == true, "\(error?.text ?? "")")
        }

        @Test("F27: a lookup that hangs ends at its deadline or with its task, and its thread is not waited for")
        func abandons() async throws {
            let gate = Locked(false)
            let pool = ResolverPool(limit: 1) { _ in
                while !gate.withLock({ $0 }) { sched_yield() }
                return .success([.loopback(port: 1)])
            }
            defer { gate.withLock { $0 = true } }
            let loop = try EventLoop()
            let late = NetworkError(kind: .timedOut, text: "late")
            func lookUp(until deadline: MonotonicTime) async throws(NetworkError) -> [SocketAddress] {
                let outcome = NetworkOutcome<[SocketAddress]>()
                let timer = OutcomeDeadline(outcome, at: deadline, on: loop, result: .failure(late))
                timer.start()
                defer { timer.stop() }
                pool.submit(HostResolver.Request(host: "h", port: 1, outcome: outcome))
                return try await outcome.value(cancelled: NetworkError(kind: .cancelled, text: "cancelled"))
            }
            let hanging = await #expect(throws: NetworkError.self) {
                _ = try await lookUp(until: .now + .milliseconds(5))
            }
            #expect(hanging?.kind == .timedOut)
            let task = Task { try await lookUp(until: .now + .seconds(600)) }
            task.cancel()
            let cancelled = await #expect(throws: NetworkError.self) { _ = try await task.value }
            #expect(cancelled?.kind == .cancelled)
            // The one thread is free again for those who still wait.
            let waiting = Task { try await lookUp(until: .now + .seconds(600)) }
            gate.withLock { $0 = true }
            #expect(try await waiting.value == [.loopback(port: 1)])
        }
    }
}
