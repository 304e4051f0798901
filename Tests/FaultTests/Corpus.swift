// SPDX-License-Identifier: Apache-2.0
import AMQP091FuzzTargets
import EpollConcurrency
import EpollNetworking
import Glibc
import Testing

// Corpus: the inputs in Fuzzing/Corpus and Fuzzing/Regressions, by target, and a thread of its own for each run: targets
// wait for tasks, which the global pool could not do without its threads.

/// One input of a target.
struct CorpusInput: CustomTestStringConvertible, Sendable {
    let target: FuzzTarget
    let name: String
    let octets: [UInt8]

    var testDescription: String { "\(self.target.rawValue)/\(self.name)" }

    /// All of a folder, by target and name.
    static func all(_ folder: String) -> [CorpusInput] {
        FuzzTarget.allCases.flatMap { target in
            let path = "\(Self.root)/\(folder)/\(target.rawValue)"
            return Self.names(path).map { name in
                CorpusInput(target: target, name: name, octets: Self.read("\(path)/\(name)"))
            }
        }
    }

    static let corpus = Self.all("Corpus")

    private static let root =
        "/\(#filePath.split(separator: "/").dropLast(3).joined(separator: "/"))/Fuzzing"

    private static func names(_ path: String) -> [String] {
        guard let directory = opendir(path) else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            // In place: the entry is no longer than its name, and a copy of the whole field would read beyond it.
            guard let offset = MemoryLayout<dirent>.offset(of: \.d_name) else { return [] }
            let name = String(cString: (UnsafeRawPointer(entry) + offset).assumingMemoryBound(to: CChar.self))
            if !name.hasPrefix(".") { names.append(name) }
        }
        return names.sorted()
    }

    private static func read(_ path: String) -> [UInt8] {
        guard let file = fopen(path, "r") else { return [] }
        defer { fclose(file) }
        var octets: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while case let count = fread(&buffer, 1, buffer.count, file), count > 0 { octets += buffer[..<count] }
        return octets
    }
}

extension FuzzTarget {
    /// Runs inputs on a thread that may wait.
    func replay(_ inputs: [[UInt8]]) async throws {
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
            do {
                try LoopThread.start {
                    for input in inputs { self.run(input) }
                    continuation.resume()
                }
            } catch {
                continuation.resume(throwing: error)
            }
        }
    }
}

/// The same "random" run for the same seed (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { self.state = seed }

    mutating func next() -> UInt64 {
        self.state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = self.state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    mutating func below(_ bound: Int) -> Int { Int.random(in: 0..<max(1, bound), using: &self) }
}
