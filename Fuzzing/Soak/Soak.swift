// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import EpollNetworking
import Glibc

// Soak: publishers, consumers, calls and visitors against one broker, under seeded faults, in rounds of twenty
// seconds: work under faults, then a clear sky until nothing is under way, then the accounts. Started by scripts/soak.
//
//   AMQPSoak MINUTES SEED [URI]        exits with 1 when a promise was broken or something grew

@main
enum Soak {
    static func main() async throws {
        let arguments = CommandLine.arguments.dropFirst()
        guard let minutes = arguments.first.flatMap({ Double($0) }), minutes > 0,
            let seed = arguments.dropFirst().first.flatMap({ UInt64($0) })
        else {
            say("AMQPSoak MINUTES SEED [URI]")
            exit(2)
        }
        let start = Resources.now()
        say("seed \(seed), \(minutes) minutes, \(arguments.count > 2 ? "broker of the URI" : "in-process broker")")
        say("start: \(start)")
        let notes = Notes()
        let grown: String?
        if let uri = arguments.dropFirst(2).first {
            let configuration = try AMQPClientConfiguration(uri: uri)
            grown = try await Self.run(configuration, nil, minutes, seed, notes)
        } else {
            grown = try await InProcessBroker.withBroker { broker in
                let grown = try await Self.run(broker.configuration, broker, minutes, seed, notes)
                let left = await Self.settled { await broker.connections().isEmpty }
                if !left { notes.isBroken("connections are left: \(await broker.connections())") }
                return grown
            }
        }
        let isBack = await Self.settled { Resources.now().descriptors <= start.descriptors + Self.loops }
        let end = Resources.now()
        say("end:   \(end)")
        Self.show(notes.sums)
        if !isBack { notes.isBroken("descriptors: \(start.descriptors) at the start, \(end.descriptors) at the end") }
        if end.tasks != 0 { notes.isBroken("\(end.tasks) tasks are left") }
        if let grown { notes.isBroken(grown) }
        say(notes.broken.isEmpty ? "Nothing lost, nothing left." : "FAILED: \(notes.broken.count) promises broken")
        exit(notes.broken.isEmpty ? 0 : 1)
    }

    /// Descriptors that the loops of the shared group keep: two each, and they stay.
    private static let loops = 2 * 4

    private static func settled(_ condition: () async -> Bool) async -> Bool {
        for _ in 0..<1000 {
            if await condition() { return true }
            await pause(milliseconds: 10)
        }
        return await condition()
    }

    private static func show(_ sums: Sums) {
        say("publishes: " + End.allCases.map { "\(sums.ends[$0] ?? 0) \($0.rawValue)" }.joined(separator: ", "))
        say("deliveries: \(sums.deliveries), of them \(sums.redeliveries) again")
        say("calls: \(sums.calls), of them \(sums.failedCalls) failed with an error; visits: \(sums.connects)")
        let faults = sums.faults.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }
        say("faults: \(sums.faults.values.reduce(0, +)): \(faults.joined(separator: ", "))")
    }

    /// The whole run; says what grew, if something did.
    private static func run(
        _ configuration: AMQPClientConfiguration,
        _ broker: InProcessBroker?,
        _ minutes: Double,
        _ seed: UInt64,
        _ notes: Notes
    ) async throws -> String? {
        guard let address = configuration.addresses.first else { return "no address" }
        return try await StreamListener.withListener(on: .host("127.0.0.1", port: 0)) { listener in
            let proxy = SoakProxy(listener, to: .host(address.host, port: address.port))
            async let served: Void = proxy.serve()
            var configuration = configuration
            configuration.addresses = [.host("127.0.0.1", port: proxy.port)]
            configuration.heartbeat = .seconds(5)
            configuration.operationTimeout = .seconds(10)
            configuration.connectTimeout = .seconds(5)
            configuration.recovery.initialDelay = .milliseconds(5)
            configuration.recovery.maximumDelay = .milliseconds(200)
            let gate = Gate()
            let workers = Workers(configuration: configuration, seed: seed, gate: gate, notes: notes)
            let suffix = broker == nil ? "-\(seed)" : ""
            let ledgers = (0..<4).map { Ledger("soak-\($0)\(suffix)", hasOutbox: $0 % 2 == 1, notes) }
            let faults = FaultSchedule(proxy: proxy, broker: broker, notes: notes)
            let calls = "soak-calls\(suffix)"
            let grown = await withTaskGroup(of: Void.self) { group in
                for (index, ledger) in ledgers.enumerated() {
                    group.addTask { await Tasks.counting { await workers.publish(ledger, index) } }
                    group.addTask { await Tasks.counting { await workers.publish(ledger, 10 + index) } }
                    group.addTask { await Tasks.counting { await workers.consume(ledger, 20 + index) } }
                }
                let server = Task { await Tasks.counting { await workers.serve(calls) } }
                for index in 30..<32 { group.addTask { await Tasks.counting { await workers.call(calls, index) } } }
                for index in 40..<43 { group.addTask { await Tasks.counting { await workers.churn(index) } } }
                let grown = await Self.rounds(minutes, SeededGenerator(seed, 99), gate, ledgers, faults, notes)
                gate.stop()
                // Consumers that wait for deliveries that will not come.
                group.cancelAll()
                server.cancel()
                await server.value
                return grown
            }
            if broker == nil { try? await Self.remove(ledgers.map(\.queue) + [calls], configuration) }
            proxy.shutdown()
            try? await served
            return grown
        }
    }

    private static func remove(_ queues: [String], _ configuration: AMQPClientConfiguration) async throws {
        let connection = try await AMQPConnection.connect(configuration)
        try await connection.withChannel { for queue in queues { try await $0.deleteQueue(queue) } }
        try await connection.close()
    }

    private static func rounds(
        _ minutes: Double,
        _ generator: SeededGenerator,
        _ gate: Gate,
        _ ledgers: [Ledger],
        _ faults: FaultSchedule,
        _ notes: Notes
    ) async -> String? {
        var generator = generator
        let clock = ContinuousClock()
        let begin = clock.now
        var samples: [Resources] = []
        var round = 0
        while clock.now - begin < .seconds(minutes * 60) {
            round += 1
            let roundEnd = clock.now + .seconds(20)
            while clock.now < roundEnd {
                await faults.inject(&generator)
                await pause(milliseconds: 100 + generator.below(1500))
            }
            await faults.clear()
            gate.close()
            await Self.account(ledgers, notes)
            let now = Resources.now()
            samples.append(now)
            let deliveries = notes.sums.deliveries
            say("round \(round), \((clock.now - begin).components.seconds) s: \(now), \(deliveries) deliveries")
            gate.open()
        }
        return Self.growth("allocated", samples.map(\.heapKibibytes))
            ?? Self.growth("resident", samples.map(\.kibibytes))
    }

    /// Says that memory grew, if it did: the first rounds fill pools and caches, from there on it is to be flat.
    private static func growth(_ memory: String, _ samples: [Int]) -> String? {
        guard samples.count >= 8 else { return nil }
        let quarter = samples.count / 4
        let early = samples[quarter..<(2 * quarter)].reduce(0, +) / quarter
        let late = samples.suffix(quarter).reduce(0, +) / quarter
        say("\(memory): \(early) KiB in the second quarter, \(late) KiB in the last")
        return late > early + early / 10 + 8192 ? "\(memory) memory grew from \(early) to \(late) KiB" : nil
    }

    /// Nothing is under way any more: every publish has its end, and what was confirmed has come.
    private static func account(_ ledgers: [Ledger], _ notes: Notes) async {
        for _ in 0..<6000 {
            if ledgers.allSatisfy({ $0.pending == 0 && $0.missing.isEmpty }) { break }
            await pause(milliseconds: 10)
        }
        for ledger in ledgers {
            if ledger.pending > 0 { notes.isBroken("\(ledger.queue): \(ledger.pending) publishes have no end") }
            let missing = ledger.missing
            if !missing.isEmpty {
                notes.isBroken("\(ledger.queue): lost: \(missing.prefix(20)), \(missing.count) in all")
            }
            ledger.nextRound()
        }
    }
}
