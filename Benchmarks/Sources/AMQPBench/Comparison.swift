// SPDX-License-Identifier: Apache-2.0
import Foundation

// Comparison: whether one result differs from another by more than chance. Pure.
// The samples of a figure are whole runs: intervals of one run are alike in ways that two runs are not. An exact
// permutation test says how often chance alone would part the runs as far as they are; what is found is called a
// difference when that is rarer than 5 % over all figures together. One run of each gives a change, and no verdict.

/// Two results, figure by figure.
struct Comparison: Sendable {
    /// What is said of one figure.
    enum Verdict: String, Sendable {
        case better, worse
        case noDifference = "no difference"
        case none = "no verdict"
    }

    /// One figure.
    struct Row: Sendable {
        var name: String
        var base: Double
        var other: Double
        /// Percent of the base.
        var change: Double
        /// How often chance parts the runs as far, from 0 to 1; nil where there are too few to tell.
        var chance: Double?
        var baseDeviation: Double?
        var otherDeviation: Double?
        var verdict: Verdict
        /// The values, of microseconds or per second, as text.
        var text: @Sendable (Double) -> String
    }

    /// How often a comparison of equal things may find a difference.
    static let level = 0.05

    var rows: [Row] = []
    /// Why the results should not be compared.
    var differences: [String] = []
    /// True when a figure is worse, or messages were lost that were not before.
    var isRegression = false
    /// True when some run of the other lost, doubled, reordered or corrupted messages, and none of the base did.
    var isUnsound = false
    /// Runs of each that a verdict takes; nil when there are as many.
    var runsNeeded: Int?

    /// Compares two results.
    ///
    /// - Parameters:
    ///   - base: What it is compared with.
    ///   - other: What is compared.
    ///   - tolerance: Changes up to this many percent are no difference.
    ///   - isPaired: Whether run n of one was made beside run n of the other.
    ///   - comparisons: How many comparisons are made together: each has a chance to differ.
    init(_ base: Report, _ other: Report, tolerance: Double, isPaired: Bool = false, of comparisons: Int = 1) {
        let figures = Figure.all.compactMap { figure -> (Figure, [Double], [Double])? in
            let (before, after) = (figure.samples(base), figure.samples(other))
            guard Statistics.mean(before) > 0, Statistics.mean(after) > 0 else { return nil }
            return (figure, before, after)
        }
        // Several figures have several chances to differ.
        let level = Self.level / Double(max(1, figures.count * comparisons))
        for (figure, before, after) in figures {
            let (mean, otherMean) = (Statistics.mean(before), Statistics.mean(after))
            let change = (otherMean / mean - 1) * 100
            let isPaired = isPaired && before.count == after.count
            let test = isPaired ? Permutations.paired(before, after) : Permutations.separate(before, after)
            var verdict = Verdict.none
            if test.smallest <= level {
                let isGain = figure.isBetterHigher ? change > 0 : change < 0
                verdict =
                    test.chance <= level && abs(change) > tolerance ? (isGain ? .better : .worse) : .noDifference
            }
            self.rows.append(
                Row(
                    name: base.options.operation.map { figure.name(of: $0.plural) } ?? figure.name,
                    base: mean,
                    other: otherMean,
                    change: change,
                    chance: verdict == .none ? nil : test.chance,
                    baseDeviation: Statistics.relativeDeviation(before),
                    otherDeviation: Statistics.relativeDeviation(after),
                    verdict: verdict,
                    text: figure.text
                )
            )
        }
        if self.rows.contains(where: { $0.verdict == .none }) {
            self.runsNeeded = (2...100).first {
                Permutations.smallest(runs: $0, isPaired: isPaired) <= level
            }
        }
        self.differences = Self.differences(base, other)
        self.isUnsound = base.areAllSound && !other.areAllSound
        self.isRegression = self.rows.contains { $0.verdict == .worse } || self.isUnsound
    }

    private static func differences(_ base: Report, _ other: Report) -> [String] {
        var found: [String] = []
        func compare(_ name: String, _ value: (Report) -> String) {
            let (before, after) = (value(base), value(other))
            if before != after { found.append("\(name): \(before) and \(after)") }
        }
        compare("broker") { "\($0.broker.product) \($0.broker.version)" }
        compare("broker started here") { String($0.broker.startedHere) }
        compare("machine") { "\($0.machine.model), \($0.machine.cores) cores" }
        compare("kernel") { $0.machine.kernel }
        compare("build") { $0.tool.build }
        let (before, after) = (base.options.values, other.options.values)
        for key in Set(before.keys).union(after.keys).subtracting(Self.namesOfRuns).sorted() {
            // A part of the capacity that was found is another rate each time.
            let isSearched = base.options.isRateSearched == true && other.options.isRateSearched == true
            if key == "rate", isSearched { continue }
            let (one, two) = (before[key] ?? "–", after[key] ?? "–")
            if one != two { found.append("\(key): \(one) and \(two)") }
        }
        return found
    }

    /// Options that do not change what is measured.
    private static let namesOfRuns: Set = ["labels", "interval"]
}

extension RunOptions {
    /// Every option that is set, as text.
    fileprivate var values: [String: String] {
        guard let data = try? Report.encoder.encode(self),
            let object = try? JSONSerialization.jsonObject(with: data) as? [String: Any]
        else { return [:] }
        return object.mapValues { value in
            guard JSONSerialization.isValidJSONObject(value),
                let text = try? JSONSerialization.data(withJSONObject: value, options: .sortedKeys)
            else { return "\(value)" }
            return String(decoding: text, as: UTF8.self)
        }
    }
}

/// A figure that is compared.
private struct Figure: Sendable {
    var name: String
    var isBetterHigher: Bool
    var ofRun: @Sendable (RunFigures) -> Double?
    var text: @Sendable (Double) -> String

    /// What it is called where operations take the place of messages.
    func name(of operation: String) -> String {
        switch self.name {
        case "published/s": "\(operation)/s"
        case "p50 confirm": "p50"
        case "p99 confirm": "p99"
        default: self.name
        }
    }

    /// The values in the runs, or that of the only run.
    func samples(_ report: Report) -> [Double] {
        (report.runs ?? [RunFigures(report)]).compactMap(self.ofRun)
    }

    static let all = [
        Figure(
            name: "published/s",
            isBetterHigher: true,
            ofRun: { $0.publishedPerSecond },
            text: { Text.count(UInt64($0.rounded())) }
        ),
        Figure(
            name: "consumed/s",
            isBetterHigher: true,
            ofRun: { $0.consumedPerSecond },
            text: { Text.count(UInt64($0.rounded())) }
        ),
        // The median finds small changes: it varies less from run to run than the tail does.
        Figure(
            name: "p50 confirm",
            isBetterHigher: false,
            ofRun: { $0.confirmP50 },
            text: { Text.milliseconds($0) + " ms" }
        ),
        Figure(
            name: "p99 confirm",
            isBetterHigher: false,
            ofRun: { $0.confirmP99 },
            text: { Text.milliseconds($0) + " ms" }
        ),
        Figure(
            name: "p50 end to end",
            isBetterHigher: false,
            ofRun: { $0.endToEndP50 },
            text: { Text.milliseconds($0) + " ms" }
        ),
        Figure(
            name: "p99 end to end",
            isBetterHigher: false,
            ofRun: { $0.endToEndP99 },
            text: { Text.milliseconds($0) + " ms" }
        ),
        Figure(
            name: "client µs/msg",
            isBetterHigher: false,
            ofRun: { $0.cpuMicrosecondsPerMessage },
            text: { Text.decimal($0, places: 2) }
        ),
    ]
}

/// The exact test: all ways in which chance could have given the runs their sides.
enum Permutations {
    /// Above so many ways, as many of them are drawn.
    private static let most = 200_000

    /// How often chance parts two sets as far as they are, and the least that this can be with so many runs.
    typealias Result = (chance: Double, smallest: Double)

    /// Of runs that were made side by side: which of a pair is which.
    static func paired(_ base: [Double], _ other: [Double]) -> Result {
        let differences = zip(base, other).map { $1 - $0 }
        guard !differences.isEmpty, differences.count < 63 else { return (1, 1) }
        let limit = abs(differences.reduce(0, +)) * (1 - 1e-9)
        let ways = 1 << differences.count
        var generator = SplitMix(seed: 0x5EED)
        let rounds = min(ways, Self.most)
        var hits = 0
        for round in 0..<rounds {
            let signs = ways <= Self.most ? UInt64(round) : generator.next()
            var sum = 0.0
            for (index, difference) in differences.enumerated() {
                sum += signs >> UInt64(index) & 1 == 1 ? -difference : difference
            }
            if abs(sum) >= limit { hits += 1 }
        }
        return (Double(hits) / Double(rounds), Self.smallest(runs: differences.count, isPaired: true))
    }

    /// Of runs that were made one set after the other: which belong to which.
    static func separate(_ base: [Double], _ other: [Double]) -> Result {
        let all = base + other
        guard !base.isEmpty, !other.isEmpty else { return (1, 1) }
        let ways = Self.ways(all.count, base.count)
        let total = all.reduce(0, +)
        func distance(_ sum: Double) -> Double {
            abs(sum / Double(base.count) - (total - sum) / Double(other.count))
        }
        let limit = distance(base.reduce(0, +)) * (1 - 1e-9)
        var (hits, rounds) = (0, 0)
        if ways <= Double(Self.most) {
            var chosen = Array(0..<base.count)
            while true {
                rounds += 1
                if distance(chosen.reduce(0) { $0 + all[$1] }) >= limit { hits += 1 }
                // The next choice in order.
                guard let place = chosen.indices.last(where: { chosen[$0] < all.count - base.count + $0 }) else {
                    break
                }
                chosen[place] += 1
                for index in chosen.indices where index > place { chosen[index] = chosen[index - 1] + 1 }
            }
        } else {
            var generator = SplitMix(seed: 0x5EED)
            var shuffled = all
            while rounds < Self.most {
                rounds += 1
                shuffled.shuffle(using: &generator)
                if distance(shuffled.prefix(base.count).reduce(0, +)) >= limit { hits += 1 }
            }
        }
        let least = base.count == other.count ? 2 / ways : 1 / ways
        return (Double(hits) / Double(rounds), least)
    }

    /// The least chance that so many runs of each can show.
    static func smallest(runs: Int, isPaired: Bool) -> Double {
        isPaired ? 2 / Double(sign: .plus, exponent: runs, significand: 1) : 2 / Self.ways(2 * runs, runs)
    }

    /// Ways to choose.
    private static func ways(_ all: Int, _ chosen: Int) -> Double {
        (0..<chosen).reduce(1.0) { $0 * Double(all - $1) / Double($1 + 1) }.rounded()
    }
}

/// A small generator of random numbers (SplitMix64).
struct SplitMix: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { self.state = seed }

    mutating func next() -> UInt64 {
        self.state &+= 0x9E37_79B9_7F4A_7C15
        var value = self.state
        value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
        return value ^ value >> 31
    }
}
