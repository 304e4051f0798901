// SPDX-License-Identifier: Apache-2.0
import AMQP091

// Operations: what `rpc` and `churn` do, with the connections they need. When and how often: OperationRun.

/// The operations of one run, ready to begin.
protocol OperationSet: Sendable {
    /// One for each worker.
    var operations: [any Operation] { get }
    /// Closes what was opened for them.
    func close() async
}

/// Calls over direct reply-to, and the servers that answer them.
struct RPCOperations: OperationSet {
    var operations: [any Operation] = []
    private var clients: [AMQPRPCClient] = []
    private var connections: [AMQPConnection] = []
    private var servers: [Task<Void, any Error>] = []
    private let queue: String
    private let control: AMQPConnection

    init(_ options: RunOptions, id: String, control: AMQPConnection, connector: Connector) async throws {
        self.control = control
        let queue = "amqp-bench-\(id)"
        self.queue = queue
        do {
            try await self.prepare(options, connector)
        } catch {
            await self.close()
            throw error
        }
    }

    private mutating func prepare(_ options: RunOptions, _ connector: Connector) async throws {
        let queue = self.queue
        try await self.control.withChannel { channel in
            try await channel.declareQueue(
                queue,
                durable: true,
                arguments: FieldTable(typing: options.queueArguments ?? [:])
            )
        }
        let work = options.consumerWork.map { Duration.seconds($0) }
        for number in 0..<options.consumers {
            let connection = try await connector.connect("server \(number)", number: number)
            self.connections.append(connection)
            self.servers.append(
                Task {
                    try await connection.serveRPC(queue, maxConcurrency: 64) { request in
                        if let work { try await Task.sleep(for: work, tolerance: .zero) }
                        return AMQPMessage(request.body.copy())
                    }
                }
            )
        }
        let bodies = BodyPlan(options, seed: 1)
        for number in 0..<options.producers {
            let connection = try await connector.connect("client \(number)", number: number)
            self.connections.append(connection)
            let client = try await connection.openRPCClient()
            self.clients.append(client)
            for call in 0..<(options.inFlight ?? 1) {
                let stream = UInt32(number * (options.inFlight ?? 1) + call)
                self.operations.append(Call(client: client, queue: queue, bodies: bodies, stream: stream))
            }
        }
    }

    func close() async {
        for client in self.clients { try? await client.close(timeout: .seconds(5)) }
        for server in self.servers { server.cancel() }
        for server in self.servers { _ = try? await server.value }
        let queue = self.queue
        _ = try? await self.control.withChannel { channel in try await channel.deleteQueue(queue) }
        for connection in self.connections { try? await connection.close(timeout: .seconds(5)) }
    }

    /// A call and its reply, which must be the request.
    private struct Call: Operation {
        let client: AMQPRPCClient
        let queue: String
        let bodies: BodyPlan
        let stream: UInt32

        func perform(_ number: UInt64) async throws -> Bool {
            var body = self.bodies.octets
            _ = self.bodies.write(MessageHeader(sequence: number, stream: self.stream, run: 1), to: &body)
            let reply = try await self.client.call(AMQPMessage(AMQPBody(body)), to: .queue(self.queue))
            let octets = reply.body.bytes
            guard octets.byteCount == body.count, Checksum.isRight(octets), let header = MessageHeader(octets) else {
                return false
            }
            return header.sequence == number && header.stream == self.stream
        }
    }
}

/// Connections, channels or queues that are opened and closed.
struct ChurnOperations: OperationSet {
    var operations: [any Operation] = []
    private var connections: [AMQPConnection] = []

    init(_ kind: ChurnKind, _ options: RunOptions, connector: Connector) async throws {
        for number in 0..<options.producers {
            guard kind != .connection else {
                self.operations.append(ConnectionChurn(connector: connector, number: number))
                continue
            }
            let connection = try await connector.connect("worker \(number)", number: number)
            self.connections.append(connection)
            if kind == .channel {
                self.operations.append(ChannelChurn(connection: connection))
            } else {
                self.operations.append(QueueChurn(channel: try await connection.openChannel()))
            }
        }
    }

    func close() async {
        for connection in self.connections { try? await connection.close(timeout: .seconds(5)) }
    }

    private struct ConnectionChurn: Operation {
        let connector: Connector
        let number: Int

        func perform(_ number: UInt64) async throws -> Bool {
            let connection = try await self.connector.connect("churn", number: self.number &+ Int(number & 0xFFFF))
            try await connection.close()
            return true
        }
    }

    private struct ChannelChurn: Operation {
        let connection: AMQPConnection

        func perform(_ number: UInt64) async throws -> Bool {
            try await self.connection.openChannel().close()
            return true
        }
    }

    private struct QueueChurn: Operation {
        let channel: AMQPChannel

        func perform(_ number: UInt64) async throws -> Bool {
            let queue = try await self.channel.declareQueue(exclusive: true)
            try await self.channel.deleteQueue(queue.name)
            return true
        }
    }
}
