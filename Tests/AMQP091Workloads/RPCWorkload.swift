// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import Synchronization

/// RPCWorkload: callers and a server: each reply belongs to its request, and no call outlives its deadline.
struct RPCWorkload: Sendable {
    @Sendable static func run(_ world: SimulatedWorld) async throws {
        let account = Account()
        let topology = AMQPTopology { $0.queue("prices", as: .quorum()) }
        try await AMQPClient.withClient(world.configuration, topology: topology) { server in
            let serving = Task {
                while !Task.isCancelled {
                    do {
                        try await server.serveRPC("prices", maxConcurrency: 3) { request in
                            try await world.sleep(for: .milliseconds(world.random(in: 0..<100)))
                            return AMQPMessage(AMQPBody("price of \(request.body.string)"))
                        }
                    } catch let error as AMQPError where error.code == .timedOut {
                        // The start has a deadline.
                    }
                }
            }
            try await AMQPClient.withClient(world.configuration, topology: topology) { client in
                try await client.withRPCClient { rpc in
                    await withTaskGroup(of: Void.self) { group in
                        for caller in 0..<4 { group.addTask { await Self.call(rpc, caller, world, account) } }
                    }
                }
            }
            serving.cancel()
            if case .failure(let error) = await serving.result, !(error is CancellationError),
                (error as? AMQPError)?.code != .cancelled
            {
                account.breach("the server ended: \(error)")
            }
        }
        await world.calm()
        try account.check()
    }

    private static func call(_ rpc: AMQPRPCClient, _ caller: Int, _ world: SimulatedWorld, _ account: Account) async {
        for number in 0..<12 {
            let item = "item \(caller).\(number)"
            let start = world.clock.now
            do {
                let timeout = Duration.milliseconds(500 + world.random(in: 0..<8000))
                let reply = try await rpc.call(AMQPMessage(AMQPBody(item)), to: .queue("prices"), timeout: timeout)
                if reply.body.string != "price of \(item)" {
                    account.breach("the reply to \(item) is \(reply.body.string)")
                }
                if start.duration(to: world.clock.now) > timeout + .seconds(1) {
                    account.breach("\(item) came too late")
                }
            } catch {
                if start.duration(to: world.clock.now) > .seconds(10) {
                    account.breach("the call for \(item) took too long")
                }
            }
            try? await world.sleep(for: .milliseconds(world.random(in: 0..<2000)))
        }
    }
}
