// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Synchronization

// Workers: what a service does with the client, chosen by a seed: publishes in each of the ways, consumes in each of the
// ways, calls and answers, connects and leaves. Each runs until it is stopped, under all faults.

/// Whether work is wanted, and how much of it is under way.
final class Gate: Sendable {
    private let state = Mutex<(isOpen: Bool, isStopped: Bool)>((true, false))

    var isOpen: Bool { self.state.withLock { $0.isOpen } }
    var isStopped: Bool { self.state.withLock { $0.isStopped } }
    func open() { self.state.withLock { $0.isOpen = true } }
    func close() { self.state.withLock { $0.isOpen = false } }
    func stop() { self.state.withLock { $0 = (false, true) } }

    /// Waits until work is wanted; false when the run ends.
    func pass() async -> Bool {
        while !self.isOpen {
            if self.isStopped { return false }
            await pause(milliseconds: 5)
        }
        return true
    }
}

struct Workers: Sendable {
    let configuration: AMQPClientConfiguration
    let seed: UInt64
    let gate: Gate
    let notes: Notes

    /// Runs one piece of work again and again, whatever it throws, as long as that is an error of the client.
    private func again(_ what: String, _ body: () async throws -> Void) async {
        while !self.gate.isStopped {
            do { try await body() } catch is AMQPError, is CancellationError {
                await pause(milliseconds: 5)
            } catch {
                self.notes.isBroken("\(what) threw \(type(of: error)): \(error)")
                return
            }
        }
    }

    private func topology(_ queues: [String]) -> AMQPTopology {
        AMQPTopology { topology in for queue in queues { topology.queue(queue) } }
    }

    // MARK: publishing

    func publish(_ ledger: Ledger, _ number: Int) async {
        var generator = SeededGenerator(self.seed, number)
        await self.again("a publisher") {
            try await AMQPClient.withClient(self.configuration, topology: self.topology([ledger.queue])) { client in
                try await client.withPublisher(outbox: ledger.hasOutbox ? .octets(1 << 20) : .none) { publisher in
                    while await self.gate.pass(), publisher.isOpen || !self.gate.isStopped {
                        if ledger.isFull {
                            await pause(milliseconds: 5)
                        } else {
                            await self.publish(ledger, publisher, &generator)
                        }
                    }
                }
            }
        }
    }

    private func publish(_ ledger: Ledger, _ publisher: AMQPPublisher, _ generator: inout SeededGenerator) async {
        let destination = AMQPDestination.queue(ledger.queue)
        // Mostly small, now and then of several frames.
        let size = generator.below(20) == 0 ? generator.below(300_000) : generator.below(2000)
        switch generator.below(3) {
        case 0:
            let (number, message) = ledger.begin(size: size)
            do throws(AMQPError) {
                try await publisher.publish(message, to: destination, mandatory: true, timeout: .seconds(20))
                ledger.end(number, .confirmed)
            } catch {
                ledger.end(number, End(error))
            }
        case 1:
            var receipts: [(Int, AMQPPublishReceipt)] = []
            for _ in 0..<generator.below(32) {
                let (number, message) = ledger.begin(size: generator.below(500))
                do throws(AMQPError) {
                    receipts.append((number, try await publisher.enqueue(message, to: destination)))
                } catch {
                    ledger.end(number, End(error))
                }
            }
            for (number, receipt) in receipts { ledger.end(number, End(await receipt.outcome(timeout: .seconds(20)))) }
        default:
            // A caller that gives up.
            let (number, message) = ledger.begin(size: size)
            let task = Task {
                do throws(AMQPError) {
                    try await publisher.publish(message, to: destination)
                    return End.confirmed
                } catch {
                    return End(error)
                }
            }
            if generator.below(4) == 0 {
                await Task.yield()
                task.cancel()
            }
            ledger.end(number, await task.value)
        }
    }

    // MARK: consuming

    func consume(_ ledger: Ledger, _ number: Int) async {
        var generator = SeededGenerator(self.seed, number)
        await self.again("a consumer") {
            try await AMQPClient.withClient(self.configuration, topology: self.topology([ledger.queue])) { client in
                while !self.gate.isStopped {
                    let count = 500 + generator.below(2000)
                    let isSlow = generator.below(8) == 0
                    let refuses = generator.below(50)
                    let prefetch = UInt16(1 + generator.below(200))
                    try await client.consume(ledger.queue, prefetch: prefetch) { deliveries in
                        var seen = 0
                        for try await delivery in deliveries {
                            ledger.delivered(delivery)
                            seen += 1
                            if refuses > 0, seen % (refuses * 10) == 0 {
                                try delivery.nack(requeue: true)
                            } else {
                                try delivery.ack()
                            }
                            if isSlow, seen % 50 == 0 { await pause(milliseconds: 2) }
                            if seen == count || self.gate.isStopped { return }
                        }
                    }
                }
            }
        }
    }

    // MARK: calls

    func serve(_ queue: String) async {
        await self.again("a server") {
            try await AMQPClient.withClient(self.configuration, topology: self.topology([queue])) { client in
                try await client.serveRPC(queue, maxConcurrency: 8) { request in AMQPMessage(request.body.copy()) }
            }
        }
    }

    func call(_ queue: String, _ number: Int) async {
        var generator = SeededGenerator(self.seed, number)
        var calls = 0
        await self.again("a caller") {
            try await AMQPClient.withClient(self.configuration, topology: self.topology([queue])) { client in
                try await client.withRPCClient { rpc in
                    while await self.gate.pass() {
                        calls += 1
                        let question = "question \(calls) of \(number)"
                        self.notes.add { $0.calls += 1 }
                        do throws(AMQPError) {
                            let answer = try await rpc.call(
                                AMQPMessage(question),
                                to: .queue(queue),
                                timeout: .seconds(5)
                            )
                            if answer.body.string != question {
                                self.notes.isBroken("'\(question)' was answered with '\(answer.body.string)'")
                            }
                        } catch {
                            self.notes.add { $0.failedCalls += 1 }
                        }
                        await pause(milliseconds: generator.below(5))
                    }
                }
            }
        }
    }

    // MARK: coming and going

    func churn(_ number: Int) async {
        var generator = SeededGenerator(self.seed, number)
        await self.again("a visitor") {
            guard await self.gate.pass() else { return }
            let connection = try await AMQPConnection.connect(self.configuration)
            self.notes.add { $0.connects += 1 }
            let isAbrupt = generator.below(3) == 0
            let count = generator.below(4)
            do {
                for _ in 0..<count {
                    try await connection.withChannel { channel in
                        try await channel.enableConfirms()
                        let queue = try await channel.declareQueue(exclusive: true).name
                        try await channel.publishAndConfirm("visit", to: .queue(queue), timeout: .seconds(10))
                        _ = try await channel.get(queue)
                        if generator.below(3) == 0 { _ = try await channel.inspectQueue("no such queue") }
                    }
                }
            } catch {
                connection.abort()
                throw error
            }
            if isAbrupt { connection.abort() } else { try await connection.close() }
            await pause(milliseconds: generator.below(20))
        }
    }
}
