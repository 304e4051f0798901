// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Synchronization
import Testing

@Suite("RPC", .enabled(if: TestBroker.uri != nil, TestBroker.isMissing), .timeLimit(.minutes(2)))
struct RPCTests {
    struct Refused: Error {}

    /// A server that doubles numbers, answers "never" never and refuses "bad".
    private static func withServer(_ body: @Sendable (AMQPConnection, AMQPDestination) async throws -> Void)
        async throws
    {
        try await TestBroker.withConnection { connection in
            try await connection.withChannel { channel in
                let queue = try await channel.declareQueue(exclusive: true).name
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask {
                        try await connection.serveRPC(queue, maxConcurrency: 8, requeue: .never) { request in
                            switch request.body.string {
                            case "never": try await Task.sleep(for: .seconds(600))
                            case "bad": throw Refused()
                            default: break
                            }
                            return AMQPMessage("\((Int(request.body.string) ?? 0) * 2)")
                        }
                    }
                    try await body(connection, .queue(queue))
                    group.cancelAll()
                    let end = await #expect(throws: AMQPError.self) { try await group.waitForAll() }
                    #expect(end?.code == .cancelled)
                }
            }
        }
    }

    @Test("Many calls in flight each get their own reply")
    func many() async throws {
        try await Self.withServer { connection, server in
            try await connection.withRPCClient { rpc in
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for number in 0..<500 {
                        group.addTask {
                            let reply = try await rpc.call("\(number)", to: server)
                            #expect(reply.body.string == "\(number * 2)")
                        }
                    }
                    try await group.waitForAll()
                }
            }
        }
    }

    @Test("A call without a reply ends at its deadline or with its task, and the client stays usable")
    func noReply() async throws {
        try await Self.withServer { connection, server in
            try await connection.withRPCClient { rpc in
                for request in ["never", "bad"] {
                    let late = await #expect(throws: AMQPError.self) {
                        try await rpc.call("\(request)", to: server, timeout: .milliseconds(200))
                    }
                    #expect(late?.code == .timedOut)
                    #expect(late?.isSafeToRetry == false)
                }
                let task = Task { try await rpc.call("never", to: server) }
                task.cancel()
                let cancelled = await #expect(throws: AMQPError.self) { try await task.value }
                #expect(cancelled?.code == .cancelled)
                let reply = try await rpc.call("21", to: server)
                #expect(reply.body.string == "42")
            }
        }
    }

    @Test("A request that no queue takes fails at once")
    func unroutable() async throws {
        try await TestBroker.withConnection { connection in
            try await connection.withRPCClient { rpc in
                let error = await #expect(throws: AMQPError.self) {
                    try await rpc.call("x", to: .queue("no such queue"))
                }
                #expect(error?.code == .returned)
                #expect(error?.replyCode == .noRoute)
            }
        }
    }

    @Test("Calls under way fail with the reason when the channel or the connection ends", arguments: [true, false])
    func ends(_ closesConnection: Bool) async throws {
        let connection = try await AMQPConnection.connect(AMQPClientConfiguration(uri: #require(TestBroker.uri)))
        let channel = try await connection.openChannel()
        let queue = try await channel.declareQueue(exclusive: true).name
        let rpc = try await connection.openRPCClient()
        let call = Task { try await rpc.call("x", to: .queue(queue)) }
        #expect(try await TestBroker.settles(queue, on: channel, at: 1))
        if closesConnection { try await connection.close() } else { try await rpc.close() }
        let error = await #expect(throws: AMQPError.self) { try await call.value }
        #expect(error?.code == (closesConnection ? .connectionClosed : .channelClosed))
        try await connection.close()
    }

    @Test("A request without a reply queue is processed and acknowledged")
    func oneWay() async throws {
        try await TestBroker.withConnection { connection in
            try await connection.withChannel { channel in
                let queue = try await channel.declareQueue(exclusive: true).name
                let (seen, continuation) = AsyncStream.makeStream(of: String.self)
                let server = Task {
                    try await connection.serveRPC(queue) { request in
                        continuation.yield(request.body.string)
                        return "nobody wants this"
                    }
                }
                try await channel.publish("one way", to: .queue(queue))
                var iterator = seen.makeAsyncIterator()
                #expect(await iterator.next() == "one way")
                server.cancel()
                _ = try? await server.value
                #expect(try await TestBroker.settles(queue, on: channel, at: 0))
            }
        }
    }
}

@Suite(
    "Ids of any octets",
    .enabled(if: TestBroker.uri != nil, TestBroker.isMissing),
    .timeLimit(.minutes(1))
)
struct BinaryIDTests {
    @Test("RabbitMQ brings ids and routing keys of any octets back, and so does a server of requests")
    func octets() async throws {
        let id = [0xFF, 0x00, 0x80] + (0..<197).map { UInt8($0) }
        try await TestBroker.withConnection { connection in
            try await connection.withChannel { channel in
                let requests = try await channel.declareQueue(exclusive: true).name
                let replies = try await channel.declareQueue(exclusive: true).name
                try await channel.bindQueue(replies, to: "amq.fanout")
                try await channel.enableConfirms()
                var properties = BasicProperties(headers: ["a": 1], replyTo: replies)
                properties.setOctets(id, of: .correlationID)
                properties.setOctets(id, of: .messageID)
                let message = AMQPMessage("m", properties: properties)
                let destination = AMQPDestination(exchange: "amq.fanout", routingKeyOctets: id)
                try await channel.publishAndConfirm(message, to: destination)
                let first = try #require(try await channel.get(replies, acknowledgement: .automatic))
                #expect(try first.properties() == properties)
                #expect(first.destination == destination)
                try await channel.publishAndConfirm(message, to: .queue(requests))
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask { try await connection.serveRPC(requests) { _ in "reply" } }
                    #expect(try await TestBroker.settles(replies, on: channel, at: 1))
                    let reply = try #require(try await channel.get(replies, acknowledgement: .automatic))
                    #expect(try reply.properties().octets(of: .correlationID) == id)
                    group.cancelAll()
                }
            }
        }
    }
}
