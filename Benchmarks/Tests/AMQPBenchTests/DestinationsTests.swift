// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import Testing

@testable import AMQPBench

@Suite("Routing keys and settling", .timeLimit(.minutes(3)))
struct DestinationsTests {
    private static func counts(_ distribution: KeyDistribution, keys: Int, messages: Int) -> [String: Int] {
        let names = (0..<keys).map { "k\($0)" }
        let destinations = Destinations(exchange: "e", keys: names, distribution: distribution, seed: 7)
        return (0..<UInt64(messages)).reduce(into: [:]) { $0[destinations[$1].routingKey, default: 0] += 1 }
    }

    @Test("Keys take turns")
    func turns() {
        let destinations = Destinations(exchange: "", keys: ["a", "b", "c"], distribution: .turns, seed: 0)
        #expect((0..<5).map { destinations[$0].routingKey } == ["a", "b", "c", "a", "b"])
        let one = Destinations(exchange: "e", keys: ["a"], distribution: .zipf, seed: 0)
        #expect(one[0].routingKey == "a" && one[4711].routingKey == "a")
    }

    @Test("At random every key is as frequent as any other")
    func random() {
        let counts = Self.counts(.random, keys: 10, messages: 1 << 14)
        #expect(counts.count == 10)
        #expect(counts.values.allSatisfy { 1300...2000 ~= $0 }, "\(counts)")
    }

    @Test("In a Zipf distribution key n is 1/n as frequent as the first")
    func zipf() throws {
        let counts = Self.counts(.zipf, keys: 100, messages: 1 << 14)
        let first = Double(try #require(counts["k0"]))
        for number in [2, 4, 8] {
            let ratio = Double(counts["k\(number - 1)"] ?? 0) / first
            #expect(abs(ratio * Double(number) - 1) < 0.25, "\(number): \(ratio)")
        }
    }

    @Test("A queue is bound with every key, and all messages arrive", arguments: ["turns", "zipf"])
    func arrives(_ distribution: String) async throws {
        try await Tool.withDirectory { directory in
            let result = try await Tool.bash(
                "$TOOL -C 300 --exchange e --routing-key a --routing-key b --key-distribution \(distribution) --json r.json",
                in: directory
            )
            #expect(result.status == 0, "\(result.output)")
            guard case .run(let report) = try StoredResult.read(directory + "/r.json") else {
                Issue.record("no run")
                return
            }
            #expect(report.wholeRun.consumed == 300 && report.lost == 0)
            #expect(report.options.routingKeys == ["a", "b"])
        }
    }

    @Test("--nack drops what arrived, --nack --requeue requeues it, and neither loses a message")
    func nacks() async throws {
        try await Tool.withDirectory { directory in
            var reports: [Report] = []
            for options in ["--nack", "--nack --requeue"] {
                let command = "$TOOL -r 200 --time 1s --warmup 0s --drain 1s -A 1 \(options) --json r.json"
                let result = try await Tool.bash(command, in: directory)
                #expect(result.status == 0, "\(result.output)")
                guard case .run(let report) = try StoredResult.read(directory + "/r.json") else { continue }
                reports.append(report)
            }
            #expect(reports.count == 2)
            #expect(reports.allSatisfy { $0.lost == 0 && $0.verify.duplicated == 0 })
            #expect(reports.first?.wholeRun.redelivered == 0 && reports.last?.wholeRun.redelivered ?? 0 > 0)
        }
    }
}
