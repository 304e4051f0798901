// SPDX-License-Identifier: Apache-2.0
import FoundationEssentials
import Testing

// FaultListTests: each row of docs/faults.md has a test that begins with its number, and each number a test begins with is
// a row there. `scripts/faults` prints the same as a list.

@Suite("List of faults")
struct FaultListTests {
    /// The numbers of the rows, in order.
    static func rows() throws -> [String] {
        try CodeBlockTests.lines("docs/faults.md").compactMap { line in
            guard line.hasPrefix("| "), let end = line.dropFirst(2).firstIndex(of: " ") else { return nil }
            let number = String(line[line.index(line.startIndex, offsetBy: 2)..<end])
            return Self.isNumber(number) ? number : nil
        }
    }

    static func isNumber(_ text: some StringProtocol) -> Bool {
        guard let letter = text.first, "FCSU".contains(letter), text.count > 1 else { return false }
        return text.dropFirst().allSatisfy { ("0"..."9").contains($0) }
    }

    /// How many names begin with each number: `"F22, F28: a plain peer …"` is one for both.
    static func tags() throws -> [String: Int] {
        var counts: [String: Int] = [:]
        for file in CodeBlockTests.files("Tests", ".swift") {
            for line in try CodeBlockTests.lines(file) {
                for text in line.split(separator: "\"", omittingEmptySubsequences: false).dropFirst() {
                    guard let colon = text.firstIndex(of: ":") else { continue }
                    let numbers = text[..<colon].split(separator: ",").map { CodeBlockTests.trimmed($0) }
                    guard !numbers.isEmpty, numbers.allSatisfy({ Self.isNumber($0) }) else { continue }
                    for number in numbers { counts[number, default: 0] += 1 }
                }
            }
        }
        return counts
    }

    @Test("Every row has a test, and every number of a test is a row")
    func complete() throws {
        let rows = try Self.rows()
        let tags = try Self.tags()
        #expect(rows.count == Set(rows).count, "a number stands twice")
        #expect(rows.count > 110)
        let missing = rows.filter { tags[$0] == nil }
        #expect(missing.isEmpty, "rows without a test: \(missing)")
        let unknown = tags.keys.filter { !rows.contains($0) }.sorted()
        #expect(unknown.isEmpty, "tests of rows that are not in docs/faults.md: \(unknown)")
    }

    /// Where a message says when it died, for people to read.
    static let calendar = "Sources/AMQP091Testing/InProcessBroker/Model/DeadLetters.swift"

    @Test("F33: no source reads the wall clock")
    func clocks() throws {
        let names = ["CLOCK_REALTIME", "gettimeofday", "SystemClock", "Date()", "time(nil)", "time(&"]
        let files = CodeBlockTests.files("Sources", ".swift") + CodeBlockTests.files("CShims", ".h")
        for file in files where file != Self.calendar {
            let lines = try CodeBlockTests.lines(file).filter { !$0.hasPrefix("//") }
            for line in lines { for name in names { #expect(!line.contains(name), "\(file): \(line)") } }
        }
    }
}
