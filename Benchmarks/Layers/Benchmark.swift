// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency

// Benchmark: repeats one piece of work and says what a step of it costs.

struct Benchmark: Sendable {
    /// Runs of which the least and the median are shown.
    static let runs = 9
    /// How long one run takes at least.
    static let nanosecondsPerRun: UInt64 = 20_000_000

    let name: String
    let steps: Int
    /// Sets up, and answers the work: `steps` steps.
    let prepare: @Sendable () -> () -> Void

    init(_ name: String, steps: Int, _ prepare: @escaping @Sendable () -> () -> Void) {
        self.name = name
        self.steps = steps
        self.prepare = prepare
    }

    func run() {
        let work = self.prepare()
        work()
        var results: [Double] = []
        for _ in 0..<Self.runs {
            var rounds = 0
            let start = MonotonicTime.now.nanoseconds
            var end = start
            while end - start < Self.nanosecondsPerRun {
                work()
                rounds += 1
                end = MonotonicTime.now.nanoseconds
            }
            results.append(Double(end - start) / Double(rounds * self.steps))
        }
        Self.show(self.name, results)
    }

    static func show(_ name: String, _ results: [Double]) {
        let sorted = results.sorted()
        print(
            name.padded(to: 44) + sorted[0].tenths.padded(to: 10, left: true)
                + sorted[sorted.count / 2].tenths.padded(to: 10, left: true)
        )
    }
}

extension Double {
    /// With one decimal.
    var tenths: String {
        let tenths = Int((self * 10).rounded())
        return "\(tenths / 10).\(tenths % 10)"
    }
}

extension String {
    func padded(to width: Int, left: Bool = false) -> String {
        let blanks = String(repeating: " ", count: max(0, width - self.count))
        return left ? blanks + self : self + blanks
    }
}
