// SPDX-License-Identifier: Apache-2.0
@testable import AMQP091
import AMQP091Wire
import EpollNetworking
import Testing

// SocketWriterTests: what was appended reaches the peer whole and in order, whoever writes it, through a stream that takes
// a few octets at a time.

@Suite("Socket writer", .timeLimit(.minutes(1)))
struct SocketWriterTests {
    /// A writer with the lock it takes from, and the far end of its stream.
    ///
    /// Loop thread only.
    private final class Stage: @unchecked Sendable {
        let loop: EventLoop
        let near: MemoryTransport
        let far: MemoryTransport
        let writer: SocketWriter
        let lock = ConnectionLock(ConnectionState(writeBufferSize: 100))

        init(_ loop: EventLoop, capacity: Int) {
            self.loop = loop
            (self.near, self.far) = MemoryTransport.pair(capacity: capacity)
            self.writer = SocketWriter(StreamEngine(self.near, on: loop, readsPerTurn: 1), trace: nil)
        }

        func append(_ octets: [UInt8]) {
            self.lock.withLock { state in for octet in octets { state.outbound.fill.append(octet) } }
        }

        func takeForCaller() {
            self.lock.withChannels { state, channels in
                let next = self.writer.takeForCaller(&state, &channels, .write)
                #expect(next == .write)
            }
        }

        /// Whether octets left.
        func flush() -> Bool { self.writer.flush(self.lock) }

        /// Whether the loop is to be woken.
        func writeAsCaller() -> Bool { self.writer.writeAsCaller(self.lock) }

        var holder: Writer { self.lock.withLock { $0.outbound.writer } }

        /// Reads as the peer.
        func arrived() -> [UInt8] {
            var room = [UInt8](repeating: 0, count: 100)
            var isCut = false
            let result = room.withUnsafeMutableBytes { self.far.read(into: $0, isCut: &isCut) }
            guard case .count(let count) = result else { return [] }
            return Array(room[..<count])
        }
    }

    private static func onLoop(capacity: Int, _ body: @escaping @Sendable (Stage) -> Void) async {
        let loop = EventLoopGroup.shared.next()
        await withCheckedContinuation { (done: CheckedContinuation<Void, Never>) in
            let accepted = loop.execute {
                body(Stage(loop, capacity: capacity))
                done.resume()
            }
            if !accepted { done.resume() }
        }
    }

    @Test("A caller writes what it took and returns the token")
    func caller() async {
        await Self.onLoop(capacity: 100) { stage in
            stage.append([1, 2, 3])
            stage.takeForCaller()
            #expect(stage.holder == .caller)
            #expect(!stage.writeAsCaller())
            #expect(stage.holder == .nobody)
            #expect(stage.arrived() == [1, 2, 3])
        }
    }

    @Test("While a caller writes, the loop leaves what was appended; the caller wakes the loop for it")
    func meanwhile() async {
        await Self.onLoop(capacity: 100) { stage in
            stage.append([1])
            stage.takeForCaller()
            stage.append([2])
            #expect(!stage.flush())
            #expect(stage.arrived() == [])
            #expect(stage.writeAsCaller())
            #expect(stage.flush())
            #expect(stage.arrived() == [1, 2])
            #expect(stage.holder == .nobody)
        }
    }

    @Test("What a full stream does not take is the loop's, before what was appended later")
    func full() async {
        await Self.onLoop(capacity: 4) { stage in
            stage.append(Array(1...6))
            stage.takeForCaller()
            #expect(stage.writeAsCaller())
            #expect(stage.holder == .loop)
            stage.append([7, 8, 9])
            var arrived: [UInt8] = []
            for _ in 0..<5 {
                arrived += stage.arrived()
                _ = stage.flush()
            }
            #expect(arrived == Array(1...9))
            #expect(stage.holder == .nobody)
        }
    }

    @Test("A flush with nothing to write is no sign of life")
    func nothing() async {
        await Self.onLoop(capacity: 4) { stage in
            #expect(!stage.flush())
            stage.append([1])
            #expect(stage.flush())
            #expect(!stage.flush())
        }
    }
}
