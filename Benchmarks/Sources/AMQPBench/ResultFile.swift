// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation

// ResultFile: a result that was written with --json, of whichever command, and the command that draws it.

/// A result in a file.
enum StoredResult: Sendable {
    case run(Report)
    case latency(LatencyReport)
    case sweep(SweepReport)

    /// Reads a result.
    ///
    /// - Parameter path: The file.
    /// - Returns: The result.
    /// - Throws: `ValidationError` that says what the file is not.
    static func read(_ path: String) throws -> StoredResult {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw ValidationError("\(path) cannot be read.")
        }
        let decoder = JSONDecoder()
        struct Kind: Codable {
            var kind: String?
            var schema: Int?
        }
        let kind = try? decoder.decode(Kind.self, from: data)
        if let schema = kind?.schema, schema != 1 {
            throw ValidationError("\(path) is of schema \(schema); this amqp-bench reads schema 1.")
        }
        if let name = Self.impossible(try? JSONSerialization.jsonObject(with: data)) {
            throw ValidationError("\(path) was changed by hand: \(name) is a number that no run has.")
        }
        do {
            switch kind?.kind {
            case "latency": return .latency(try decoder.decode(LatencyReport.self, from: data))
            case "sweep": return .sweep(try decoder.decode(SweepReport.self, from: data))
            default: return .run(try decoder.decode(Report.self, from: data))
            }
        } catch {
            throw ValidationError("\(path) is not a result of amqp-bench (schema 1).")
        }
    }

    /// No figure of a run is larger.
    private static let largest = 1e15

    /// The name of a number that no run has: not finite, negative, or too large to be drawn; nil for none.
    private static func impossible(_ value: Any?, _ name: String = "the result") -> String? {
        switch value {
        case let object as [String: Any]:
            for (key, value) in object { if let found = Self.impossible(value, key) { return found } }
        case let list as [Any]:
            for value in list { if let found = Self.impossible(value, name) { return found } }
        case let number as NSNumber:
            if !(0...Self.largest ~= number.doubleValue) { return name }
        default: break
        }
        return nil
    }

    /// The page of it.
    ///
    /// - Returns: A whole HTML file.
    /// - Throws: The error of encoding it.
    func page() throws -> String {
        switch self {
        case .run(let report): try HTMLReport(report).page()
        case .latency(let report): try SeriesHTML(latency: report).page()
        case .sweep(let report): try SeriesHTML(sweep: report).page()
        }
    }

    /// The command that measured it.
    var command: String {
        switch self {
        case .run(let report): report.options.command
        case .latency: "latency"
        case .sweep: "sweep"
        }
    }

    /// Its runs, each with a name that the same run of another result has too.
    var steps: [(name: String, report: Report)] {
        switch self {
        case .run(let report): [("", report)]
        case .latency(let report):
            report.steps.map { step in
                let rate = Text.rate(step.report.options.rate ?? 0)
                return (step.ofCapacity.map { "\(Text.percent($0 * 100)) of capacity" } ?? rate, step.report)
            }
        case .sweep(let report): report.steps.map { ("\(report.over) \($0.value)", $0.report) }
        }
    }
}

/// Make an HTML report.
struct MakeReport: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "report",
        abstract: "Turn a result written with --json into one self-contained HTML file."
    )

    @Argument(help: "The result.") var result: String
    @Option(name: .letter("o"), help: "The file to write. (default: the result's name with .html)") var output: String?

    func run() throws {
        let report = try StoredResult.read(self.result)
        let url = URL(fileURLWithPath: self.result)
        let file = self.output ?? url.deletingPathExtension().appendingPathExtension("html").relativePath
        do {
            try FileOutput.write(report.page(), to: file)
        } catch {
            throw ValidationError("\(error)")
        }
        print("saved  \(file)")
    }
}
