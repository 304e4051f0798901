// SPDX-License-Identifier: Apache-2.0
import Glibc
import SystemPackage
import Testing

@testable import EpollConcurrency
@testable import EpollNetworking

// StreamConnectionTests: both ends of a connection, each held by the test, over TCP and Unix sockets.

/// A listener and both ends of one connection to it.
func withPair<Result>(
    on address: SocketAddress = .loopback(port: 0),
    client clientOptions: SocketOptions = SocketOptions(),
    server serverOptions: SocketOptions = SocketOptions(),
    _ body: (_ client: StreamConnection, _ server: StreamConnection) async throws -> Result
) async throws -> Result {
    var options = ListenerOptions()
    options.connection = serverOptions
    return try await StreamListener.withListener(on: address, options: options) { listener in
        try await StreamConnection.withConnection(to: listener.localAddress, options: clientOptions) { client in
            let server = try #require(try await listener.accept(timeout: .seconds(10)))
            return try await body(client, server)
        }
    }
}

extension StreamConnection {
    /// Everything until the peer finishes.
    func readAll() async throws -> [UInt8] {
        var octets: [UInt8] = []
        for try await chunk in self.inbound { octets.append(contentsOf: chunk) }
        return octets
    }
}

extension NetworkTests {
    @Suite("Stream connection", .timeLimit(.minutes(2)))
    struct StreamConnectionTests {
        static let families: [SocketAddress] = [
            .loopback(port: 0), .loopbackV6(port: 0), .abstract(name: Array("epoll-net-\(getpid())".utf8)),
        ]

        /// So small that the kernel cannot swallow what a test writes, however large its own sizes are.
        static var small: SocketOptions {
            var options = SocketOptions()
            options.sendBuffer = 64 << 10
            options.receiveBuffer = 64 << 10
            return options
        }

        @Test("Octets, the end of the stream, and the answer after it pass both ways", arguments: families)
        func halfClose(address: SocketAddress) async throws {
            try requireFamily(of: address)
            try await withPair(on: address) { client, server in
                try await client.write("hello ")
                try await client.write(Array("world".utf8))
                try await client.finish()
                try await client.finish()
                #expect(try await server.readAll() == Array("hello world".utf8))
                let late = await #expect(throws: NetworkError.self) { try await client.write("more") }
                #expect(late?.kind == .closed)
                // The other direction is open still.
                try await server.write("bye")
                try await server.finish()
                #expect(try await client.readAll() == Array("bye".utf8))
                #expect(try await client.read() == nil)
            }
        }

        @Test("Addresses of both ends agree; a Unix peer has credentials, and all is nil after the end")
        func addresses() async throws {
            try await withPair { client, server in
                #expect(client.peerAddress == server.localAddress)
                #expect(client.localAddress == server.peerAddress)
                #expect(client.peerCredentials == nil)
                client.close()
                await eventually { client.peerAddress == nil }
                #expect(client.localAddress == nil)
            }
            try await withPair(on: Self.families[2]) { client, server in
                #expect(client.peerCredentials?.process == getpid())
                #expect(server.peerCredentials?.user == getuid())
            }
        }

        @Test("Reading into the caller's buffer fills what is free, and reading exactly waits for all of it")
        func readInto() async throws {
            try await withPair { client, server in
                try await client.write([1, 2, 3, 4, 5])
                var storage = [UInt8](repeating: 0, count: 3)
                let count = try await storage.withOutput { output in
                    try await server.read(into: &output)
                }
                #expect(count == 3)
                #expect(storage == [1, 2, 3])
                let exact = Task { try await server.read(exactly: 4) }
                try await client.write([6])
                try await client.write([7])
                #expect(try await exact.value == [4, 5, 6, 7])
                try await client.write([8])
                try await client.finish()
                let cut = await #expect(throws: NetworkError.self) { _ = try await server.read(exactly: 2) }
                #expect(cut?.kind == .reset)
                #expect(try await server.read(exactly: 2) == nil)
            }
        }

        @Test("A cancelled and a late read leave the connection as it was")
        func readEnds() async throws {
            try await withPair { client, server in
                let reading = Task { try await server.read() }
                await eventually { server.isReaderParked }
                reading.cancel()
                let cancelled = await #expect(throws: NetworkError.self) { _ = try await reading.value }
                #expect(cancelled?.kind == .cancelled)
                #expect(cancelled?.leavesConnectionUsable == true)
                let start = MonotonicTime.now
                let late = await #expect(throws: NetworkError.self) {
                    _ = try await server.read(timeout: .milliseconds(20))
                }
                #expect(late?.kind == .timedOut)
                #expect(MonotonicTime.now - start >= .milliseconds(20))
                try await client.write([1])
                #expect(try await server.read(timeout: .seconds(20)).map(Array.init) == [1])
            }
        }

        @Test("The timeout of the options holds for each wait")
        func optionTimeout() async throws {
            var options = SocketOptions()
            options.readTimeout = .milliseconds(15)
            options.quickAck = true
            options.keepAlive = true
            options.keepAliveProbes = .init(idle: .seconds(5), interval: .seconds(1), count: 2)
            options.userTimeout = .seconds(5)
            options.receiveBuffer = 64 << 10
            try await withPair(client: options) { client, server in
                for octet in UInt8(0)..<3 {
                    try await server.write([octet])
                    #expect(try await client.read().map(Array.init) == [octet])
                }
                let late = await #expect(throws: NetworkError.self) { _ = try await client.read() }
                #expect(late?.kind == .timedOut)
            }
        }

        @Test("An accepted connection has the options of its listener")
        func inheritance() async throws {
            var options = SocketOptions()
            options.keepAlive = true
            try await withPair(server: options) { _, server in
                let socket = try #require(server.core.inspect { $0.descriptor })
                #expect(getOption(socket, CInt(IPPROTO_TCP), TCP_NODELAY) == 1)
                #expect(getOption(socket, SOL_SOCKET, SO_KEEPALIVE) == 1)
            }
        }

        @Test("A second reader is told so, and the first is not disturbed")
        func twoReaders() async throws {
            try await withPair { client, server in
                let first = Task { try await server.read() }
                await eventually { server.isReaderParked }
                let second = await #expect(throws: NetworkError.self) { _ = try await server.read() }
                #expect(second?.kind == .busy)
                try await client.write([1])
                #expect(try await first.value.map(Array.init) == [1])
            }
        }

        @Test("Writers take turns: no write comes in between another's octets", arguments: [1, 3])
        func writersInTurn(parts: Int) async throws {
            let size = 300_000
            try await withPair { client, server in
                async let received = server.readAll()
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for octet in UInt8(0)..<8 {
                        group.addTask {
                            let part = ByteChunk([UInt8](repeating: octet, count: size / parts))
                            try await client.write([ByteChunk](repeating: part, count: parts))
                        }
                    }
                    try await group.waitForAll()
                }
                try await client.finish()
                let octets = try await received
                #expect(octets.count == 8 * (size / parts) * parts)
                var runs = 1
                for index in 1..<octets.count where octets[index] != octets[index - 1] { runs += 1 }
                #expect(runs == 8)
            }
        }

        @Test("More chunks than one call takes arrive in order, empty ones too")
        func manyChunks() async throws {
            try await withPair { client, server in
                let chunks = (0..<1000).map { index in
                    ByteChunk([UInt8](repeating: UInt8(index & 255), count: index % 7 * 100))
                }
                async let received = server.readAll()
                try await client.write(chunks)
                try await client.finish()
                #expect(try await received == chunks.flatMap(Array.init))
            }
        }

        @Test("A peer that does not read holds the writer back; what it was given arrives when it reads again")
        func zeroWindow() async throws {
            try await withPair(client: Self.small, server: Self.small) { client, server in
                let octets = [UInt8](repeating: 7, count: 4 << 20)
                let writing = Task { try await client.write(octets) }
                await eventually { client.isWriterParked }
                let finishing = Task { try await client.finish() }
                #expect(try await server.readAll().count == octets.count)
                try await writing.value
                try await finishing.value
            }
        }

        @Test("A write given up in the middle ends the writing side, and those that wait behind it")
        func writeGivenUp() async throws {
            try await withPair(client: Self.small, server: Self.small) { client, server in
                let octets = [UInt8](repeating: 7, count: 4 << 20)
                let writing = Task { try await client.write(octets) }
                await eventually { client.isWriterParked }
                // Behind it, and given up before its turn: nothing has happened.
                let early = await #expect(throws: NetworkError.self) {
                    try await client.write([1], timeout: .milliseconds(10))
                }
                #expect(early?.kind == .timedOut)
                #expect(early?.leavesConnectionUsable == true)
                let behind = Task { try await client.write([2]) }
                writing.cancel()
                let cut = await #expect(throws: NetworkError.self) { try await writing.value }
                #expect(cut?.kind == .cancelled)
                #expect(cut?.leavesConnectionUsable == false)
                let refused = await #expect(throws: NetworkError.self) { try await behind.value }
                #expect(refused?.kind == .closed)
                // Reading continues.
                try await server.write([9])
                #expect(try await client.read().map(Array.init) == [9])
            }
        }

        @Test("A reset is no end of the stream for a reader, though a writer got the kernel's only report of it")
        func resetReportedToWriter() async throws {
            for round in 0..<20 {
                let (client, server) = try await EndingTests.pair(.tcp)
                if round % 2 == 0 { try await server.write([1, 2, 3]) }
                server.abort()
                // As a writer on another thread, before the connection learns of it.
                await eventually {
                    let result = client.core.inspect { socket in [1].withUnsafeBytes { socket.write($0) } }
                    return if case .failed? = result { true } else { false }
                }
                let error = await #expect(throws: NetworkError.self) {
                    while try await client.read(timeout: .seconds(20)) != nil {}
                }
                #expect(error?.kind == .reset)
            }
        }

        @Test("The end of the stream is one after this side has ended its own half, too")
        func endAfterFinish() async throws {
            for kind in [EndingTests.Kind.tcp, .unix] {
                let (client, server) = try await EndingTests.pair(kind)
                try await client.finish()
                #expect(try await server.read(timeout: .seconds(20)) == nil)
                try await server.finish()
                #expect(try await client.read(timeout: .seconds(20)) == nil)
                // Closed on both sides by now.
                #expect(try await client.read(timeout: .seconds(20)) == nil)
            }
        }

        @Test("A write to a peer that does not read ends at its timeout")
        func writeTimeout() async throws {
            var options = Self.small
            options.writeTimeout = .milliseconds(20)
            try await withPair(client: options, server: Self.small) { client, _ in
                let late = await #expect(throws: NetworkError.self) {
                    try await client.write([UInt8](repeating: 7, count: 4 << 20))
                }
                #expect(late?.kind == .timedOut)
                #expect(late?.leavesConnectionUsable == false)
            }
        }

        @Test("F25: a reset in the middle of a write is an error, not a signal")
        func resetDuringWrite() async throws {
            try await withPair(client: Self.small, server: Self.small) { client, server in
                let writing = Task { try await client.write([UInt8](repeating: 7, count: 4 << 20)) }
                await eventually { client.isWriterParked }
                server.abort()
                let error = await #expect(throws: NetworkError.self) { try await writing.value }
                #expect(error?.kind == .reset)
                let again = await #expect(throws: NetworkError.self) { try await client.write([1]) }
                #expect(again?.kind == .reset)
                let reading = await #expect(throws: NetworkError.self) { _ = try await client.read() }
                #expect(reading?.kind == .reset)
            }
        }

        @Test("Closing wakes those who wait on this side, and ends the other", arguments: [true, false])
        func closes(resets: Bool) async throws {
            try await withPair(client: Self.small, server: Self.small) { client, server in
                let reading = Task { try await client.read() }
                let writing = Task { try await client.write([UInt8](repeating: 7, count: 4 << 20)) }
                await eventually { client.isReaderParked && client.isWriterParked }
                if resets { client.abort() } else { client.close() }
                let read = await #expect(throws: NetworkError.self) { _ = try await reading.value }
                #expect(read?.kind == .closed)
                let write = await #expect(throws: NetworkError.self) { try await writing.value }
                #expect(write?.kind == .closed)
                if resets {
                    let reset = await #expect(throws: NetworkError.self) { _ = try await server.readAll() }
                    #expect(reset?.kind == .reset)
                } else {
                    let rest = try await server.readAll()
                    #expect(!rest.isEmpty)
                }
            }
        }

        @Test("A connection nobody holds any more is closed")
        func forgotten() async throws {
            let before = openSockets()
            try await StreamListener.withListener(on: .loopback(port: 0)) { listener in
                do {
                    let client = try await StreamConnection.connect(to: listener.localAddress)
                    try await client.write([1])
                }
                let server = try #require(try await listener.accept())
                #expect(try await server.readAll() == [1])
            }
            await eventually { openSockets().subtracting(before).isEmpty }
        }

        @Test("Octets and the end that came in one event are both read")
        func dataAndEnd() async throws {
            for _ in 0..<200 {
                try await withPair { client, server in
                    let received = Task { try await server.readAll() }
                    try await client.write([1, 2, 3])
                    client.close()
                    #expect(try await received.value == [1, 2, 3])
                }
            }
        }

        @Test("Connections end with their loop: those who wait are told, and no descriptor is left")
        func loopEnds() async throws {
            let before = openSockets()
            let loop = try EventLoop()
            try await StreamListener.withListener(on: .loopback(port: 0)) { listener in
                let client = try await StreamConnection.connect(to: listener.localAddress, on: loop)
                let reading = Task { try await client.read() }
                await eventually { client.isReaderParked }
                loop.shutdown()
                let error = await #expect(throws: NetworkError.self) { _ = try await reading.value }
                #expect(error?.kind == .cancelled)
                await loop.stopped()
                let late = await #expect(throws: NetworkError.self) { try await client.write([1]) }
                #expect(late?.kind == .cancelled)
                client.close()
            }
            await eventually { openSockets().subtracting(before).isEmpty }
        }

        @Test("A scope that throws resets, and the error comes through")
        func scopeThrows() async throws {
            struct Odd: Error {}
            try await StreamListener.withListener(on: .loopback(port: 0)) { listener in
                let accepted = Promise<StreamConnection?>()
                await #expect(throws: Odd.self) {
                    try await StreamConnection.withConnection(to: listener.localAddress) { _ in
                        accepted.fulfil(try await listener.accept(timeout: .seconds(20)))
                        throw Odd()
                    }
                }
                let server = try #require(await accepted.value)
                let reset = await #expect(throws: NetworkError.self) { _ = try await server.read() }
                #expect(reset?.kind == .reset)
            }
        }

        @Test("A task that prefers the loop reads and writes on its thread, also when it was woken")
        func onLoop() async throws {
            let loop = try EventLoop()
            try await StreamListener.withListener(on: .loopback(port: 0)) { listener in
                let client = try await StreamConnection.connect(to: listener.localAddress, on: loop)
                let server = try #require(try await listener.accept())
                let task = Task(executorPreference: loop) {
                    var octets: [UInt8] = []
                    for try await chunk in client.inbound {
                        #expect(loop.isInLoop)
                        octets.append(contentsOf: chunk)
                        try await client.write(chunk)
                    }
                    return octets
                }
                for octet in UInt8(0)..<50 {
                    try await server.write([octet])
                    #expect(try await server.read(exactly: 1) == [octet])
                }
                try await server.finish()
                #expect(try await task.value == Array(0..<50))
            }
        }
    }
}

extension StreamConnection {
    var isReaderParked: Bool {
        self.core.flow.withLock { if case .parked = $0.reader { true } else { false } }
    }
    var isWriterParked: Bool {
        self.core.flow.withLock { if case .parked = $0.writer { true } else { false } }
    }
}

extension [UInt8] {
    /// Lends the array as a buffer that nothing was written to.
    mutating func withOutput<Result>(_ body: (inout OutputRawSpan) async throws -> Result) async throws -> Result {
        let room = UnsafeMutableRawBufferPointer.allocate(byteCount: self.count, alignment: 1)
        defer { room.deallocate() }
        var output = OutputRawSpan(buffer: room, initializedCount: 0)
        let result = try await body(&output)
        let count = output.finalize(for: room)
        self = Array(room.prefix(count))
        return result
    }
}

func getOption(_ descriptor: CInt, _ level: CInt, _ name: CInt) -> CInt {
    var value: CInt = -1
    var length = socklen_t(MemoryLayout<CInt>.size)
    getsockopt(descriptor, level, name, &value, &length)
    return value
}
