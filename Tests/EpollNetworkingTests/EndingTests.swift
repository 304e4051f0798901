// SPDX-License-Identifier: Apache-2.0
import Glibc
import Testing

@testable import EpollConcurrency
@testable import EpollNetworking

// EndingTests: how a connection ends, as the article Endings promises it: what the peer sees, and what arrives.

/// A test waited in vain.
struct TookTooLong: Error {}

/// Runs `body`, and throws when it takes too long: a wait without an end is a failure instead of a hang, also where it does
/// not end with its task.
func within<Value: Sendable>(
    _ limit: Duration,
    _ body: @escaping @Sendable () async throws -> Value
) async throws -> Value {
    let first = Promise<Result<Value, any Error>>()
    let task = Task {
        do { first.fulfil(.success(try await body())) } catch { first.fulfil(.failure(error)) }
    }
    let guardian = Task {
        try await Task.sleep(for: limit)
        task.cancel()
        first.fulfil(.failure(TookTooLong()))
    }
    defer { guardian.cancel() }
    return try await first.value.get()
}

extension NetworkTests {
    @Suite("Endings", .timeLimit(.minutes(2)))
    struct EndingTests {
        static let size = 4 << 20

        /// The transport of a connection.
        enum Kind: String, CaseIterable, Sendable {
            case tcp, unix, tls12, tls13

            var isTLS: Bool { self == .tls12 || self == .tls13 }

            var address: SocketAddress {
                self == .unix ? .abstract(name: Array("epoll-net-ending-\(getpid())".utf8)) : .loopback(port: 0)
            }

            static var available: [Kind] {
                #if TLS
                    Self.allCases
                #else
                    [.tcp, .unix]
                #endif
            }
        }

        /// Both ends of a connection of a kind; they are closed by `body`, or with the last reference.
        static func pair(
            _ kind: Kind,
            client clientOptions: SocketOptions = SocketOptions(),
            server serverOptions: SocketOptions = SocketOptions()
        ) async throws -> (client: StreamConnection, server: StreamConnection) {
            var options = ListenerOptions()
            options.connection = serverOptions
            let listener = try await StreamListener.listen(on: kind.address, options: options)
            defer { listener.close() }
            let client = try await StreamConnection.connect(to: listener.localAddress, options: clientOptions)
            let server = try #require(try await listener.accept(timeout: .seconds(10)))
            #if TLS
                if kind.isTLS {
                    let context = try Certificates.client { $0.maximumVersion = kind == .tls12 ? .tls12 : .tls13 }
                    async let accepted: Void = server.startTLS(Certificates.server())
                    try await client.startTLS(context, host: "localhost")
                    try await accepted
                }
            #endif
            return (client, server)
        }

        /// The octets a reader got, and how it ended.
        struct Received: Sendable, Equatable {
            var count = 0
            var end: NetworkError.Kind?
        }

        static func drain(_ connection: StreamConnection) async -> Received {
            var received = Received()
            do throws(NetworkError) {
                while let chunk = try await connection.read() { received.count += chunk.count }
            } catch { received.end = error.kind }
            return received
        }

        @Test("What the peer had sent before its reset is read after a write has failed", arguments: Kind.available)
        func readAfterFailedWrite(kind: Kind) async throws {
            for _ in 0..<5 {
                let (client, server) = try await Self.pair(kind)
                try await server.write("go away")
                await eventually { server.core.inspect { $0.isUnix || $0.unsentCount == 0 } == true }
                server.abort()
                let error = await #expect(throws: NetworkError.self) {
                    while true { try await client.write([1], timeout: .seconds(20)) }
                }
                #expect(error?.kind == .reset)
                #expect(await Self.drain(client).count == 7)
            }
        }

        @Test(
            "Everything that was written arrives when a scope ends, also with finish(), close() and the last reference",
            arguments: Kind.available,
            ["scope", "finish", "close", "forgotten"]
        )
        func everythingArrives(kind: Kind, how: String) async throws {
            for _ in 0..<3 {
                let (client, server) = try await Self.pair(kind)
                // The tickets of TLS 1.3 and this are never read by the client.
                if !kind.isTLS { try await server.write([1, 2, 3]) }
                let receiving = Task { await Self.drain(server) }
                let octets = [UInt8](repeating: 7, count: Self.size)
                if how == "scope" || how == "finish" {
                    try await within(.seconds(30)) {
                        try await client.scoped { client in
                            try await client.write(octets)
                            if how == "finish" { try await client.finish() }
                        }
                    }
                } else {
                    try await client.write(octets)
                    if how == "close" { client.close() }
                    _ = consume client
                }
                let received = try await within(.seconds(30)) { await receiving.value }
                #expect(received == Received(count: Self.size, end: nil))
            }
        }

        /// A row of the table in the article Endings.
        enum Way: String, CaseIterable, Sendable { case finish, close, abort, lastReference, handler }

        @Test(
            "Table of endings: each transport shows the peer everything and an end, and after abort() what it has for that",
            arguments: Kind.available,
            Way.allCases
        )
        func table(kind: Kind, way: Way) async throws {
            let octets = [UInt8](repeating: 7, count: 1 << 20)
            if way == .handler {
                let received = try await within(.seconds(40)) { try await Self.served(kind, octets) }
                #expect(received == Received(count: octets.count, end: nil))
                return
            }
            var (client, server): (StreamConnection?, StreamConnection) = try await Self.pair(kind)
            let receiving = Task { await Self.drain(server) }
            try await client?.write(octets)
            switch way {
            case .finish: try await client?.finish()
            case .close: client?.close()
            case .abort: client?.abort()
            case .lastReference, .handler: client = nil
            }
            let received = try await within(.seconds(40)) { await receiving.value }
            switch (way, kind) {
            case (.abort, .unix): #expect(received == Received(count: octets.count, end: nil))
            case (.abort, _):
                #expect(received.end == .reset)
                #expect(received.count <= octets.count)
            default: #expect(received == Received(count: octets.count, end: nil))
            }
            if way == .finish {
                // The other direction is open.
                try await server.write([9])
                let answer = try await within(.seconds(20)) { [client] in try await client?.read(exactly: 1) }
                #expect(answer == [9])
            }
            withExtendedLifetime(client) {}
        }

        /// Connects to a server whose handler writes and returns, leaves octets for it unread, and drains the connection.
        private static func served(_ kind: Kind, _ octets: [UInt8]) async throws -> Received {
            let listener = try await StreamListener.listen(on: kind.address)
            let handler: @Sendable (StreamConnection) async throws -> Void = { try await $0.write(octets) }
            let serving = Task {
                #if TLS
                    if kind.isTLS { return try await listener.serve(tls: Certificates.server(), handler) }
                #endif
                try await listener.serve(handler)
            }
            let client = try await StreamConnection.connect(to: listener.localAddress)
            #if TLS
                if kind.isTLS {
                    let context = try Certificates.client { $0.maximumVersion = kind == .tls12 ? .tls12 : .tls13 }
                    try await client.startTLS(context, host: "localhost")
                }
            #endif
            try await client.write([1, 2, 3])
            let received = await Self.drain(client)
            client.close()
            listener.close()
            try await serving.value
            return received
        }

        @Test("The end of TLS arrives although the send buffer was full at the close", arguments: Kind.available)
        func fullBuffer(kind: Kind) async throws {
            var small = SocketOptions()
            small.sendBuffer = 8 << 10
            small.receiveBuffer = 8 << 10
            let (client, server) = try await Self.pair(kind, client: small, server: small)
            // As much as is taken without anybody who reads, and not one octet of room more.
            var written = 0
            let block = [UInt8](repeating: 7, count: 256)
            while true {
                do throws(NetworkError) {
                    try await client.write(block, timeout: .milliseconds(20))
                    written += block.count
                } catch {
                    // A part of a block makes the end one that was cut off: another attempt.
                    if !error.leavesConnectionUsable { written = -1 }
                    break
                }
            }
            client.close()
            let received = try await within(.seconds(30)) { await Self.drain(server) }
            if written >= 0 {
                #expect(received == Received(count: written, end: nil))
            } else {
                #expect(received.end == (kind.isTLS ? .reset : nil))
            }
        }

        @Test(
            "A write that is given up ends the stream for the peer, and finish() after it has nothing to do",
            arguments: Kind.available
        )
        func cutWrite(kind: Kind) async throws {
            let small = StreamConnectionTests.small
            let (client, server) = try await Self.pair(kind, client: small, server: small)
            let cut = await #expect(throws: NetworkError.self) {
                try await within(.seconds(20)) {
                    try await client.write([UInt8](repeating: 7, count: Self.size), timeout: .milliseconds(30))
                }
            }
            #expect(cut?.kind == .timedOut)
            #expect(cut?.leavesConnectionUsable == false)
            try await client.finish()
            let received = try await within(.seconds(20)) { await Self.drain(server) }
            #expect(received.count > 0)
            #expect(received.count < Self.size)
            // A plain stream has one kind of end; TLS tells a cut from an end.
            #expect(received.end == (kind.isTLS ? .reset : nil))
            if kind.isTLS { return }
            try await server.write([9])
            #expect(try await client.read(exactly: 1) == [9])
        }

        @Test("abort() is a reset for a TCP peer, and an end without close_notify over TLS", arguments: Kind.available)
        func abort(kind: Kind) async throws {
            let (client, server) = try await Self.pair(kind)
            try await client.write([1, 2, 3])
            #expect(try await server.read(exactly: 3) == [1, 2, 3])
            client.abort()
            let received = try await within(.seconds(20)) { await Self.drain(server) }
            // A Unix socket knows no reset.
            #expect(received == Received(count: 0, end: kind == .unix ? nil : .reset))
        }

        @Test("An answer arrives although the handler has not read everything", arguments: Kind.available)
        func earlyAnswer(kind: Kind) async throws {
            for _ in 0..<5 {
                let (client, server) = try await Self.pair(kind)
                let serving = Task {
                    try await server.scoped { server in
                        _ = try await server.read(exactly: 1000)
                        try await server.write("413 too large")
                    }
                }
                // A peer that ended does not keep its client from sending what it has.
                try await within(.seconds(30)) {
                    try await client.write([UInt8](repeating: 7, count: Self.size))
                    let answer = try await client.readAll()
                    #expect(String(decoding: answer, as: UTF8.self) == "413 too large")
                    client.close()
                }
                try await serving.value
            }
        }

        @Test("An answer that came before the peer's reset can be read after a failed write")
        func answerBeforeReset() async throws {
            let (client, server) = try await Self.pair(.tcp)
            try await server.write("go away")
            await readable(try #require(client.core.inspect { $0.descriptor }))
            server.abort()
            let failed = await #expect(throws: NetworkError.self) {
                // Until the reset has come.
                for _ in 0..<Int.max { try await client.write([1], timeout: .seconds(20)) }
            }
            #expect(failed?.kind == .reset)
            let received = try await within(.seconds(20)) { await Self.drain(client) }
            #expect(received == Received(count: 7, end: .reset))
        }

        @Test(
            "A scope fails when its peer does not take everything in time, and when it cuts the end off",
            arguments: [true, false]
        )
        func undelivered(isReset: Bool) async throws {
            var small = StreamConnectionTests.small
            small.lingerTime = isReset ? .seconds(20) : .milliseconds(50)
            let (client, server) = try await Self.pair(.tcp, client: small, server: small)
            let closing = Task {
                try await client.scoped { client in
                    // More than the peer's window, less than the kernel takes of this side.
                    try await client.write([UInt8](repeating: 7, count: 100 << 10))
                    try await client.write([UInt8](repeating: 7, count: 60 << 10))
                }
            }
            if isReset {
                await eventually { client.core.flow.withLock { $0.isDeliveryAwaited } }
                server.abort()
            }
            let error = await #expect(throws: NetworkError.self) {
                try await within(.seconds(30)) { try await closing.value }
            }
            #expect(error?.kind == (isReset ? .reset : .timedOut))
            withExtendedLifetime(server) {}
        }

        @Test("A closed connection keeps its descriptor no longer than it may linger")
        func lingersForATime() async throws {
            var options = SocketOptions()
            options.lingerTime = .milliseconds(50)
            let before = openSockets()
            let (client, server) = try await Self.pair(.tcp, client: options)
            client.close()
            // The peer does not end.
            #expect(try await server.read() == nil)
            #expect(client.peerAddress == nil)
            await eventually { openSockets().subtracting(before).count == 1 }
            // And one that sends for ever is cut off as well.
            let (second, loud) = try await Self.pair(.tcp, client: options)
            second.close()
            let error = await #expect(throws: NetworkError.self) {
                try await within(.seconds(30)) {
                    while true { try await loud.write([UInt8](repeating: 1, count: 1000)) }
                }
            }
            #expect(error?.kind == .reset)
            withExtendedLifetime(server) {}
        }

        @Test("Without time to linger a close is one at once, and a scope does not wait", arguments: Kind.available)
        func noLinger(kind: Kind) async throws {
            var options = SocketOptions()
            options.lingerTime = .zero
            let before = openSockets()
            let (client, server) = try await Self.pair(kind, client: options)
            if kind.isTLS {
                // The tickets, so that nothing is unread.
                try await server.write([1])
                #expect(try await client.read(exactly: 1) == [1])
            }
            try await within(.seconds(10)) { try await client.scoped { try await $0.write([1, 2, 3]) } }
            await eventually { openSockets().subtracting(before).count == 1 }
            #expect(await Self.drain(server) == Received(count: 3, end: nil))
        }

        @Test("What is iterated stays open, though nobody else holds it")
        func iterated() async throws {
            let (client, server) = try await Self.pair(.tcp)
            let inbound = client.inbound
            _ = consume client
            try await server.write([5])
            try await server.finish()
            var octets: [UInt8] = []
            for try await chunk in inbound { octets += chunk }
            #expect(octets == [5])
        }

        @Test("A handler that closes by itself and throws is not reset")
        func closedThenThrown() async throws {
            struct Odd: Error {}
            let (client, server) = try await Self.pair(.tcp)
            try await server.write([1])
            await #expect(throws: Odd.self) {
                try await client.scoped { client in
                    try await client.write([2])
                    client.close()
                    throw Odd()
                }
            }
            #expect(await Self.drain(server) == Received(count: 1, end: nil))
        }

        #if TLS
            @Test("A failed read of a closed TLS connection sends nothing to the next owner of its descriptor")
            func strangers() async throws {
                var options = StreamConnectionTests.small
                // So that the number is free at once.
                options.lingerTime = .zero
                var hit = 0
                for _ in 0..<30 {
                    let (client, server) = try await Self.pair(.tls13, client: options, server: options)
                    let number = try #require(client.core.inspect { $0.descriptor })
                    _ = try? await client.write([UInt8](repeating: 7, count: Self.size), timeout: .milliseconds(5))
                    client.close()
                    await eventually { client.core.flow.withLock { $0.isDescriptorClosed } }
                    var others: [(StreamConnection, StreamConnection)] = []
                    for _ in 0..<4 { others.append(try await Self.pair(.tcp)) }
                    if others.contains(where: { $0.0.core.inspect { $0.descriptor } == number }) { hit += 1 }
                    _ = try? await client.read()
                    _ = try? await client.read(exactly: 10)
                    var octets = [UInt8](repeating: 0, count: 10)
                    _ = try? await octets.withOutput { try await client.read(into: &$0) }
                    for (other, peer) in others {
                        other.close()
                        #expect(await Self.drain(peer) == Received(count: 0, end: nil))
                    }
                    server.abort()
                }
                // The test has tested something.
                #expect(hit > 0)
            }

            @Test("startTLS, close and tlsSession at the same time end in an error or a session")
            func startAgainstClose() async throws {
                for round in 0..<40 {
                    let (client, server) = try await Self.pair(.tcp)
                    async let accepted: Void? = try? server.startTLS(Certificates.server())
                    async let connected: Void? = try? client.startTLS(Certificates.client(), host: "localhost")
                    async let looked: Void = { for _ in 0..<100 { _ = client.tlsSession } }()
                    for _ in 0..<round { await Task.yield() }
                    client.close()
                    _ = await (accepted, connected, looked)
                    let error = await #expect(throws: NetworkError.self) { _ = try await client.read() }
                    #expect(error?.kind == .closed)
                    server.close()
                }
            }

            @Test("A second startTLS is refused and leaves the first as it is; a cancelled one leaves nothing usable")
            func startTwice() async throws {
                let (client, server) = try await Self.pair(.tls13)
                let context = try Certificates.client()
                let twice = await #expect(throws: NetworkError.self) {
                    try await client.startTLS(context, host: "localhost")
                }
                #expect(twice?.leavesConnectionUsable == true)
                try await client.write([1])
                #expect(try await server.read(exactly: 1) == [1])
                let (second, silent) = try await Self.pair(.tcp)
                let starting = Task { try await second.startTLS(context, host: "localhost") }
                await eventually { second.isReaderParked }
                starting.cancel()
                let cancelled = await #expect(throws: NetworkError.self) { try await starting.value }
                #expect(cancelled?.kind == .cancelled)
                #expect(cancelled?.leavesConnectionUsable == false)
                let late = await #expect(throws: NetworkError.self) { _ = try await second.read() }
                #expect(late?.kind == .cancelled)
                withExtendedLifetime(silent) {}
            }
        #endif
    }
}
