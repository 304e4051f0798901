// SPDX-License-Identifier: Apache-2.0
import SystemPackage
import Testing

@testable import EpollConcurrency
@testable import EpollNetworking

// StreamEngineTests: one stream for an owner on a loop's thread, over memory instead of sockets; and the values that judge
// reads and ends.

@Suite("Read readiness")
struct ReadReadinessTests {
    struct Row: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let events: ReadyEvents
        let effect: ReadReadiness.Effect
        let isReadable: Bool

        init(_ name: String, _ events: ReadyEvents, _ effect: ReadReadiness.Effect, _ isReadable: Bool) {
            self.testDescription = name
            self.events = events
            self.effect = effect
            self.isReadable = isReadable
        }
    }

    static let rows = [
        Row("a short read empties the socket", .readable, .short, false),
        Row("a full room leaves more", .readable, .more, true),
        Row("would-block means empty", .readable, .empty, false),
        Row("a short read may stop at urgent data", [.readable, .urgent], .short, true),
        Row("would-block means empty behind urgent data too", [.readable, .urgent], .empty, false),
        Row("after a hangup reads go on", [.readable, .hangup], .short, true),
        Row("after an error reads go on", .error, .empty, true),
        Row("an end can be read again", .readable, .ended, true),
    ]

    @Test("A read tells whether another may find something", arguments: rows)
    func effect(_ row: Row) {
        var readiness = ReadReadiness()
        let isWorthReading = readiness.received(row.events)
        #expect(isWorthReading)
        readiness.begin()
        readiness.ended(row.effect)
        #expect(readiness.isReadable == row.isReadable)
    }

    @Test("An event during a read is not lost")
    func eventDuringRead() {
        var readiness = ReadReadiness()
        readiness.begin()
        #expect(!readiness.isReadable)
        _ = readiness.received(.readable)
        readiness.ended(.empty)
        #expect(readiness.isReadable)
    }

    @Test("A read that stopped at a mark, or filled its room, leaves more")
    func marks() {
        #expect(ReadReadiness.Effect(.count(3), room: 8, isCut: false) == .short)
        #expect(ReadReadiness.Effect(.count(3), room: 8, isCut: true) == .more)
        #expect(ReadReadiness.Effect(.count(8), room: 8, isCut: false) == .more)
        #expect(ReadReadiness.Effect(.endOfStream, room: 8, isCut: false) == .ended)
        #expect(ReadReadiness.Effect(.wouldBlock, room: 8, isCut: false) == .empty)
    }
}

@Suite("Linger")
struct LingerTests {
    static func time(_ milliseconds: UInt64) -> MonotonicTime { MonotonicTime(nanoseconds: milliseconds * 1_000_000) }

    @Test("A lingering end gives up without progress, and in any case after six times that")
    func ends() {
        var linger = Linger(.milliseconds(100), hasFailed: false, at: Self.time(0))
        let next1 = linger.next(at: Self.time(0), isAwaited: false)
        #expect(next1 == Self.time(100))
        linger.moved(at: Self.time(90))
        let next2 = linger.next(at: Self.time(100), isAwaited: false)
        #expect(next2 == Self.time(190))
        linger.remains(10, at: Self.time(150))
        let next3 = linger.next(at: Self.time(150), isAwaited: false)
        #expect(next3 == Self.time(190))
        linger.remains(5, at: Self.time(180))
        let next4 = linger.next(at: Self.time(180), isAwaited: false)
        #expect(next4 == Self.time(280))
        linger.moved(at: Self.time(590))
        let next5 = linger.next(at: Self.time(599), isAwaited: false)
        #expect(next5 == Self.time(600))
        let next6 = linger.next(at: Self.time(600), isAwaited: false)
        #expect(next6 == nil)
    }

    @Test("After a violation progress moves nothing on")
    func violation() {
        var linger = Linger(.milliseconds(100), hasFailed: true, at: Self.time(0))
        linger.moved(at: Self.time(90))
        let next7 = linger.next(at: Self.time(90), isAwaited: false)
        #expect(next7 == Self.time(100))
        let next8 = linger.next(at: Self.time(100), isAwaited: false)
        #expect(next8 == nil)
    }

    @Test("A linger time of any length is no trap", arguments: [Duration.seconds(Int64.max), .seconds(Int64.max) * 10])
    func endlessLinger(time: Duration) {
        var linger = Linger(time, hasFailed: false, at: Self.time(1))
        linger.moved(at: Self.time(2))
        #expect(linger.next(at: Self.time(3), isAwaited: false) == .distantFuture)
    }

    @Test("While somebody waits for delivery it looks again, later and later")
    func awaited() {
        var linger = Linger(.seconds(10), hasFailed: false, at: Self.time(0))
        var looks: [MonotonicTime?] = []
        for _ in 0..<9 { looks.append(linger.next(at: Self.time(0), isAwaited: true)) }
        #expect(looks == [2, 4, 8, 16, 32, 64, 128, 250, 250].map { Self.time($0) })
    }
}

extension NetworkTests {
    @Suite("Stream engine", .timeLimit(.minutes(1)))
    struct StreamEngineTests {
        /// Keeps what the engine says, in order.
        final class Owner: StreamOwner, @unchecked Sendable {
            let stream: StreamEngine
            var octets: [UInt8] = []
            var calls: [String] = []
            var mayRead = true
            var onReceived: ((Owner) -> Void)?
            private let base: UnsafeMutableRawBufferPointer

            init(_ transport: any ByteTransport, on loop: EventLoop, room: Int = 8, readsPerTurn: Int = 4) {
                self.stream = StreamEngine(transport, on: loop, readsPerTurn: readsPerTurn)
                self.base = .allocate(byteCount: room, alignment: 8)
            }

            deinit { self.base.deallocate() }

            func streamRoom() -> UnsafeMutableRawBufferPointer? { self.mayRead ? self.base : nil }

            func streamReceived(_ count: Int) {
                self.octets += self.base[..<count]
                self.calls.append("received \(count)")
                self.onReceived?(self)
            }

            func streamRested(hasEmptied: Bool) { self.calls.append(hasEmptied ? "emptied" : "rested") }
            func streamWritable() { self.calls.append("writable") }

            func streamEnded(_ end: StreamEnd) {
                switch end {
                case .endOfStream: self.calls.append("end")
                case .failed(let error): self.calls.append("failed \(error.errno.rawValue)")
                case .loopStopped: self.calls.append("stopped")
                }
                self.stream.close()
            }
        }

        /// Runs `body` on the loop's thread, then lets it turn until nothing is due.
        private func onLoop<Result: Sendable>(
            _ loop: EventLoop,
            _ body: @escaping @Sendable () throws -> Result
        ) async throws -> Result {
            try await Task(executorPreference: loop) { try body() }.value
        }

        /// Owner and engine keep each other until the stream is closed.
        private func end(_ owner: Owner, _ loop: EventLoop) async {
            await Task(executorPreference: loop) { owner.stream.close() }.value
            loop.shutdown()
        }

        private func settle(_ loop: EventLoop) async {
            for _ in 0..<8 { await Task(executorPreference: loop) {}.value }
        }

        /// An owner at one end, and the other end of its stream.
        private func pair(
            on loop: EventLoop,
            capacity: Int = 1024,
            room: Int = 8,
            readsPerTurn: Int = 4
        ) async throws -> (Owner, Peer) {
            try await self.onLoop(loop) {
                let (near, far) = MemoryTransport.pair(capacity: capacity)
                let owner = Owner(near, on: loop, room: room, readsPerTurn: readsPerTurn)
                try owner.stream.start(owner)
                return (owner, Peer(near: near, far: far))
            }
        }

        /// The other end; used on the loop's thread.
        struct Peer: @unchecked Sendable {
            let near: MemoryTransport
            let far: MemoryTransport

            func send(_ text: String) {
                var octets = Array(text.utf8)
                _ = octets.withUnsafeMutableBytes { self.far.write(UnsafeRawBufferPointer($0)) }
            }

            /// Reads everything there is, and the result after it.
            func receive() -> (text: String, end: IOResult) {
                var octets: [UInt8] = []
                while true {
                    var room = [UInt8](repeating: 0, count: 64)
                    var isCut = false
                    let result = room.withUnsafeMutableBytes { self.far.read(into: $0, isCut: &isCut) }
                    guard case .count(let count) = result else {
                        return (String(decoding: octets, as: UTF8.self), result)
                    }
                    octets += room[..<count]
                }
            }
        }

        @Test("A short read ends the reads of a turn; a full room does not")
        func shortRead() async throws {
            let loop = try EventLoop()
            let (owner, peer) = try await self.pair(on: loop)
            try await self.onLoop(loop) { peer.send("abcdefghijk") }
            await self.settle(loop)
            #expect(owner.calls.filter { $0 != "writable" } == ["received 8", "received 3", "emptied"])
            await self.end(owner, loop)
        }

        @Test("A read that stopped at a mark is followed by another")
        func markedRead() async throws {
            let loop = try EventLoop()
            let (owner, peer) = try await self.pair(on: loop)
            try await self.onLoop(loop) {
                peer.near.readLimit = 3
                peer.near.cutsReads = true
                peer.send("abcdef")
            }
            await self.settle(loop)
            #expect(owner.octets == Array("abcdef".utf8))
            #expect(owner.calls.last == "emptied")
            await self.end(owner, loop)
        }

        @Test("The budget of a turn ends its reads; the next turn continues without an event")
        func budget() async throws {
            let loop = try EventLoop()
            let (owner, peer) = try await self.pair(on: loop, room: 2, readsPerTurn: 2)
            try await self.onLoop(loop) { peer.send("abcdefghi") }
            await self.settle(loop)
            let calls = owner.calls.filter { $0 != "writable" }
            #expect(calls.prefix(4) == ["received 2", "received 2", "rested", "received 2"])
            #expect(owner.octets == Array("abcdefghi".utf8))
            await self.end(owner, loop)
        }

        @Test("An owner without room is asked again when it says so")
        func pause() async throws {
            let loop = try EventLoop()
            let (owner, peer) = try await self.pair(on: loop)
            try await self.onLoop(loop) {
                owner.mayRead = false
                peer.send("abc")
            }
            await self.settle(loop)
            #expect(owner.octets.isEmpty)
            #expect(owner.calls.contains("rested"))
            try await self.onLoop(loop) {
                owner.mayRead = true
                owner.stream.read()
            }
            #expect(owner.octets == Array("abc".utf8))
            await self.end(owner, loop)
        }

        @Test("The end of the stream comes after everything before it, once")
        func end() async throws {
            let loop = try EventLoop()
            let (owner, peer) = try await self.pair(on: loop)
            try await self.onLoop(loop) {
                peer.send("abc")
                peer.far.finishWriting()
            }
            await self.settle(loop)
            #expect(owner.calls.filter { $0 != "writable" } == ["received 3", "rested", "end"])
            await self.end(owner, loop)
        }

        @Test("After a failed write the peer's last octets are read before the owner is told why")
        func writeFailure() async throws {
            let loop = try EventLoop()
            let (owner, peer) = try await self.pair(on: loop)
            try await self.onLoop(loop) {
                owner.mayRead = false
                peer.send("goodbye")
                peer.far.close()
            }
            await self.settle(loop)
            try await self.onLoop(loop) {
                owner.mayRead = true
                owner.calls = []
                var offset = 0
                let end = Array("late".utf8).withUnsafeBytes { owner.stream.send($0, from: &offset) }
                let mayGoOn = owner.stream.sent(end)
                #expect(!mayGoOn)
                #expect(!owner.stream.canSend)
            }
            await self.settle(loop)
            #expect(owner.octets == Array("goodbye".utf8))
            #expect(owner.calls.last == "failed \(Errno.brokenPipe.rawValue)")
            await self.end(owner, loop)
        }

        @Test("A full stream is written on when there is room, from where it stopped")
        func resumption() async throws {
            let loop = try EventLoop()
            let (owner, peer) = try await self.pair(on: loop, capacity: 4)
            try await self.onLoop(loop) {
                var offset = 0
                let end = Array("abcdef".utf8).withUnsafeBytes { owner.stream.send($0, from: &offset) }
                #expect(end == .full && offset == 4)
                let mayGoOn = owner.stream.sent(end)
                #expect(!mayGoOn)
                owner.calls = []
                #expect(peer.receive().text == "abcd")
            }
            await self.settle(loop)
            #expect(owner.calls == ["writable"])
            await self.end(owner, loop)
        }

        @Test("An owner that closes while it is given octets is told nothing more")
        func closeInside() async throws {
            let loop = try EventLoop()
            let (owner, peer) = try await self.pair(on: loop)
            try await self.onLoop(loop) {
                owner.onReceived = { $0.stream.close() }
                peer.send("abcdefghijkl")
            }
            await self.settle(loop)
            #expect(owner.calls.filter { $0 != "writable" } == ["received 8"])
            await self.end(owner, loop)
        }

        @Test("A lingering end lets the peer read what was sent, although it keeps sending")
        func linger() async throws {
            let loop = try EventLoop()
            let (owner, peer) = try await self.pair(on: loop)
            try await self.onLoop(loop) {
                owner.mayRead = false
                peer.send("unread")
                var offset = 0
                let end = Array("last".utf8).withUnsafeBytes { owner.stream.send($0, from: &offset) }
                #expect(end == .drained)
                owner.stream.close(lingering: .seconds(30))
                peer.send("late")
            }
            await self.settle(loop)
            try await self.onLoop(loop) {
                #expect(!peer.near.isClosed)
                let (text, end) = peer.receive()
                #expect(text == "last" && end == .endOfStream)
                peer.far.close()
            }
            await self.settle(loop)
            #expect(try await self.onLoop(loop) { peer.near.isClosed })
            await self.end(owner, loop)
        }

        @Test("A lingering end is over in time, and at the end of its loop")
        func lingerEnds() async throws {
            let loop = try EventLoop()
            let (owner, peer) = try await self.pair(on: loop)
            try await self.onLoop(loop) { owner.stream.close(lingering: .milliseconds(20)) }
            while try await !self.onLoop(loop, { peer.near.isClosed }) {
                try await loop.sleep(for: .milliseconds(2))
            }
            await self.end(owner, loop)
        }

        @Test("The end of a loop is told as such")
        func loopStopped() async throws {
            let loop = try EventLoop()
            let (near, far) = try StreamSocket.pair()
            let owner = try await self.onLoop(loop) {
                let owner = Owner(near, on: loop)
                try owner.stream.start(owner)
                return owner
            }
            loop.shutdown()
            await loop.stopped()
            #expect(owner.calls.last == "stopped")
            far.close()
        }
    }
}
