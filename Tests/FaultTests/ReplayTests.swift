// SPDX-License-Identifier: Apache-2.0
import AMQP091FuzzTargets
import Testing

// ReplayTests: what scripts/fuzz keeps is taken again by every run of the unit tests: the corpus, the inputs of past
// findings, and as many changes of them, by a seed, as take a moment. A trap ends the run and names the target.

@Suite("Fuzz targets", .serialized, .timeLimit(.minutes(5)))
struct ReplayTests {
    @Test("Each target has a corpus", arguments: FuzzTarget.allCases)
    func exists(_ target: FuzzTarget) {
        #expect(CorpusInput.corpus.contains { $0.target == target })
    }

    @Test("Every input of the corpus is processed", arguments: FuzzTarget.allCases)
    func corpus(_ target: FuzzTarget) async throws {
        try await target.replay(CorpusInput.corpus.filter { $0.target == target }.map(\.octets))
    }

    @Test("Past findings stay fixed", arguments: CorpusInput.all("Regressions"))
    func regression(_ input: CorpusInput) async throws {
        try await input.target.replay([input.octets])
    }

    /// How many changed inputs each target takes: those with sockets and handshakes fewer.
    private static func count(_ target: FuzzTarget) -> Int {
        switch target {
        case .frames, .contents, .tables, .uris, .machine: 2000
        case .client, .broker: 100
        case .tls: 50
        }
    }

    @Test("Mutations of the corpus are processed", arguments: FuzzTarget.allCases, [1, 2] as [UInt64])
    func changed(_ target: FuzzTarget, seed: UInt64) async throws {
        var generator = SeededGenerator(seed: seed)
        let inputs = CorpusInput.corpus.filter { $0.target == target }.map(\.octets)
        let changed = (0..<Self.count(target)).map { _ in Self.changed(inputs, &generator) }
        try await target.replay(changed)
    }

    private static func changed(_ inputs: [[UInt8]], _ generator: inout SeededGenerator) -> [UInt8] {
        var octets = inputs.randomElement(using: &generator) ?? []
        for _ in 0..<Int.random(in: 1...4, using: &generator) {
            let at = Int.random(in: 0...octets.count, using: &generator)
            switch Int.random(in: 0...4, using: &generator) {
            case 0 where at < octets.count: octets[at] ^= 1 << UInt8.random(in: 0...7, using: &generator)
            case 1 where at < octets.count: octets[at] = .random(in: 0...255, using: &generator)
            case 2: octets.insert(.random(in: 0...255, using: &generator), at: at)
            case 3: octets.removeSubrange(at..<min(octets.count, at + Int.random(in: 0...8, using: &generator)))
            default: octets += (inputs.randomElement(using: &generator) ?? []).suffix(octets.count - at)
            }
        }
        return octets
    }

    @Test("Random dialogues of the client's machines keep their contracts", arguments: 0..<100 as Range<UInt64>)
    func dialogue(seed: UInt64) async throws {
        var generator = SeededGenerator(seed: seed)
        // The login first, or nearly every dialogue ends before it begins.
        let login: [UInt8] = [0x09, 0, 0x19, 0, 0x29, 0, 0, 0, 0x39, 1, 0, 0, 0x39, 2]
        let octets = login + (0..<3000).map { _ in .random(in: 0...255, using: &generator) }
        try await FuzzTarget.machine.replay([octets])
    }
}
