// SPDX-License-Identifier: Apache-2.0
import AMQP091Testing
import AMQP091Workloads
import EpollConcurrency
import Glibc

// Simulate: runs the workloads in worlds of many seeds, until a time is over or a property does not hold; see scripts/simulate.

@main
struct Simulate {
    private var workloads = Workload.all
    private var first: UInt64 = 1
    private var count: UInt64?
    private var time: Duration = .seconds(60)
    private var comparesRuns = false
    private var triesFaults = false

    static func main() async {
        do {
            try await Simulate(CommandLine.arguments.dropFirst()).run()
        } catch {
            print("\(error)")
            exit(1)
        }
    }

    private init(_ arguments: ArraySlice<String>) throws {
        var arguments = arguments
        func value(_ option: String) throws -> String {
            guard let value = arguments.popFirst() else { throw Usage(description: "\(option) needs a value") }
            return value
        }
        func number<Number: LosslessStringConvertible>(_ option: String) throws -> Number {
            let text = try value(option)
            guard let number = Number(text) else { throw Usage(description: "'\(text)' is no value of \(option)") }
            return number
        }
        while let option = arguments.popFirst() {
            switch option {
            case "--workload":
                let name = try value(option)
                self.workloads = Workload.all.filter { $0.name == name }
                if self.workloads.isEmpty {
                    throw Usage(description: "the workloads are \(Workload.all.map(\.name).joined(separator: ", "))")
                }
            case "--seed": self.first = try number(option)
            case "--worlds": self.count = try number(option)
            case "--hours": self.time = .seconds(3600) * (try number(option) as Double)
            case "--minutes": self.time = .seconds(60) * (try number(option) as Double)
            case "--compare": self.comparesRuns = true
            case "--faults": self.triesFaults = true
            default: throw Usage(description: "'\(option)' is no option; see scripts/simulate --help")
            }
        }
    }

    /// Prints a line at once, also into a file.
    private func say(_ line: String) {
        print(line)
        fflush(nil)
    }

    private struct Usage: Error, CustomStringConvertible {
        let description: String
    }

    private func run() async throws {
        if self.comparesRuns { return try await self.compareRuns() }
        if self.triesFaults { return try await self.tryFaults() }
        let start = ContinuousClock.now
        var sum = SimulatedWorld.Exploration()
        var seed = self.first
        while self.count.map({ seed - self.first < $0 }) ?? (ContinuousClock.now - start < self.time) {
            let last = seed + min(100, self.count.map { $0 - (seed - self.first) } ?? 100) - 1
            for workload in self.workloads {
                do {
                    sum += try await SimulatedWorld.explore(seeds: seed...last, workload.options, workload.run)
                } catch {
                    print("workload \(workload.name)")
                    throw error
                }
            }
            seed = last + 1
            self.report(sum, ContinuousClock.now - start, through: last)
        }
    }

    private func report(_ sum: SimulatedWorld.Exploration, _ time: Duration, through seed: UInt64) {
        let seconds = time / .seconds(1)
        let perMinute = Int(Double(sum.worlds) / seconds * 60)
        let speed = Int(sum.elapsed / time)
        self.say(
            "\(sum.worlds) worlds through seed \(seed): \(perMinute) a minute, "
                + "\(speed) simulated seconds a second, \(sum.steps) steps"
        )
    }

    /// Has the client make each mistake, and finds it.
    private func tryFaults() async throws {
        #if DELIBERATE_FAULTS
            var isFound = true
            for fault in DeliberateFault.allCases {
                DeliberateFault.current = fault
                let limit = self.count ?? 200
                search: for seed in self.first..<(self.first + limit) {
                    for workload in self.workloads {
                        do throws(SimulationFailure) {
                            try await SimulatedWorld.run(seed: seed, workload.options, workload.run)
                        } catch {
                            self.say("\(fault): seed \(seed) of \(workload.name): \(error.reason.prefix(160))")
                            break search
                        }
                    }
                    if seed == self.first + limit - 1 {
                        self.say("\(fault): not found in \(limit) worlds of each workload")
                        isFound = false
                    }
                }
            }
            if !isFound { throw Usage(description: "a fault was not found") }
        #else
            throw Usage(description: "this build makes no mistakes on purpose; see scripts/simulate --faults")
        #endif
    }

    /// Runs each world twice, and prints one digest of all: equal in every process of one build.
    private func compareRuns() async throws {
        var digest: UInt64 = 0
        let last = self.first + (self.count ?? 100) - 1
        for workload in self.workloads {
            for seed in self.first...last {
                let one = try await SimulatedWorld.run(seed: seed, workload.options, workload.run).report
                let other = try await SimulatedWorld.run(seed: seed, workload.options, workload.run).report
                guard one == other else { throw Usage(description: "\(workload.name), seed \(seed): two runs differ") }
                digest = (digest ^ one.digest) &* 0x0000_0100_0000_01b3
            }
        }
        print("seeds \(self.first) to \(last) of \(self.workloads.map(\.name)), each twice: digest \(digest)")
    }
}
