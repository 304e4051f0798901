// SPDX-License-Identifier: Apache-2.0
import AMQP091
import CHotPath
import EpollNetworking
import Glibc
import Testing

// HotPathCountTests: what a message costs in allocations and system calls, and a connection that waits in memory, as
// counts: they say the same on every machine, and a time does not. Each runs in a process of its own, whose counters no
// other test touches.
// The limits are what the design promises, with room for the handful of waits that depend on the scheduler.

@Suite("Hot path counts", .serialized)
struct HotPathCountTests {
    static let messages = 200_000

    /// What the child counted, for the log.
    private static func show(_ child: ExitTest.Result?) {
        print(String(decoding: child?.standardOutputContent ?? [], as: UTF8.self), terminator: "")
    }

    @Test("Publishing octets the caller keeps allocates nothing per message, with confirms")
    func publishWithConfirms() async {
        let child = await #expect(processExitsWith: .success, observing: [\.standardOutputContent]) {
            try await HotPath.publish(confirms: true)
        }
        Self.show(child)
    }

    @Test("Publishing octets the caller keeps allocates nothing per message, without confirms")
    func publishWithoutConfirms() async {
        let child = await #expect(processExitsWith: .success, observing: [\.standardOutputContent]) {
            try await HotPath.publish(confirms: false)
        }
        Self.show(child)
    }

    @Test("Consuming allocates a few times per batch, and nothing per message")
    func consume() async {
        let child = await #expect(processExitsWith: .success, observing: [\.standardOutputContent]) {
            try await HotPath.consume(acknowledgement: .automatic)
        }
        Self.show(child)
    }

    @Test("Consuming and acknowledging each delivery allocates nothing per message")
    func consumeAndAcknowledge() async {
        let child = await #expect(processExitsWith: .success, observing: [\.standardOutputContent]) {
            try await HotPath.consume(acknowledgement: .manual)
        }
        Self.show(child)
    }

    @Test("A connection of a server that waits for octets takes less than 3.5 KiB")
    func idleConnections() async {
        let child = await #expect(processExitsWith: .success, observing: [\.standardOutputContent]) {
            try await HotPath.idle()
        }
        Self.show(child)
    }
}

/// The workloads, each with its limits.
enum HotPath {
    struct TooMany: Error, CustomStringConvertible {
        var description: String
    }

    static func publish(confirms: Bool) async throws {
        try await Self.withChannel(deliveries: 0) { channel in
            if confirms { try await channel.enableConfirms(window: 5000) }
            let body = [UInt8](repeating: 1, count: 16)
            let destination = AMQPDestination.queue("a-queue-with-a-name-of-more-than-fifteen-octets")
            func publishAll() async throws {
                for _ in 0..<HotPathCountTests.messages { try await channel.publish(body.span.bytes, to: destination) }
                if confirms { try await channel.waitForConfirms() } else { try await channel.setPrefetch(count: 1) }
            }
            // Once before, so that buffers have their size.
            try await publishAll()
            chotpath_reset()
            try await publishAll()
            // A publisher waits for the window, or for room, once per some thousand messages; a wait allocates.
            try Self.check(allocationsPerThousand: 5)
        }
    }

    static func consume(acknowledgement: AMQPAcknowledgement) async throws {
        let messages = HotPathCountTests.messages
        try await Self.withChannel(deliveries: UInt64(2 * messages)) { channel in
            try await channel.consume("queue", acknowledgement: acknowledgement) { deliveries in
                var count = 0
                for try await delivery in deliveries {
                    if acknowledgement == .manual { try delivery.ack() }
                    count += 1
                    if count == messages { chotpath_reset() }
                    if count == 2 * messages { break }
                }
                // A batch is what one read brought; acknowledgements leave once for each wake-up of the loop.
                let counts = chotpath_read()
                let turns = acknowledgement == .manual ? counts.system_calls : counts.reads
                try Self.check(allocationsPerThousand: 5 + Int(turns) * 1000 / messages)
            }
        }
    }

    /// After the two ways to write, because a task keeps the most it has ever needed for its frames.
    static func idle() async throws {
        var options = ListenerOptions()
        options.group = try EventLoopGroup(count: 1)
        try await TCPListener.withListener(on: .host("127.0.0.1", port: 0), options: options) { listener in
            async let _: Void = listener.serve(on: .eventLoop) { connection in
                for try await chunk in connection.inbound {
                    try await connection.write(chunk)
                    try await connection.write([chunk])
                }
            }
            func hold(_ connections: Int) throws {
                let code = chotpath_hold(listener.localAddress.port ?? 0, CInt(connections), 2)
                guard code == 0 else { throw TooMany(description: "the peers cannot connect: \(code)") }
            }
            // Before, so that the loop has its buffers.
            try hold(16)
            let before = chotpath_heap()
            try hold(400)
            let octets = (chotpath_heap() - before) / 400
            print("an idle connection: \(octets) octets")
            fflush(nil)
            guard octets < 3584 else {
                throw TooMany(description: "\(octets) octets per idle connection, not less than 3584")
            }
        }
    }

    private static func withChannel(
        deliveries: UInt64,
        _ body: (AMQPChannel) async throws -> Void
    ) async throws {
        let port = chotpath_peer(deliveries, 16)
        guard port > 0 else { throw TooMany(description: "the peer cannot listen: \(port)") }
        try await AMQPConnection.withConnection("amqp://127.0.0.1:\(port)") { connection in
            try await connection.withChannel { try await body($0) }
        }
    }

    /// One for ten messages: how many the threads do between two waits is the scheduler's, and mostly it is a hundred.
    private static let systemCallsPerThousand = 100

    private static func check(allocationsPerThousand: Int) throws {
        let counts = chotpath_read()
        let allocations = Int(counts.allocations) * 1000 / HotPathCountTests.messages
        let systemCalls = Int(counts.system_calls) * 1000 / HotPathCountTests.messages
        print("per thousand messages: \(allocations) allocations, \(systemCalls) system calls; \(counts)")
        fflush(nil)
        guard allocations <= allocationsPerThousand else {
            throw TooMany(
                description: "\(allocations) allocations per thousand messages, not \(allocationsPerThousand)"
            )
        }
        guard systemCalls <= Self.systemCallsPerThousand else {
            throw TooMany(
                description: "\(systemCalls) system calls per thousand messages, not \(Self.systemCallsPerThousand)"
            )
        }
    }
}
