// SPDX-License-Identifier: Apache-2.0
import Testing

// ListedTestsTests: the pages of docs/ that list what tests hold: each row is numbered, and each test it names is there.

@Suite("Lists of tests")
struct ListedTestsTests {
    /// The page, and how many rows it has at least.
    static let pages: [(page: String, rows: Int)] = [("docs/pitfalls.md", 72)]

    /// The cells of the rows that begin with a number.
    static func rows(_ page: String) throws -> [[String]] {
        try CodeBlockTests.lines(page).map { $0.split(separator: "|").map { CodeBlockTests.trimmed($0) } }
            .filter { $0.count >= 3 && Int($0[0]) != nil }
    }

    @Test("Rows are numbered from 1 without a gap, and every test they name exists", arguments: pages)
    func listed(_ page: (page: String, rows: Int)) throws {
        let rows = try Self.rows(page.page)
        #expect(rows.compactMap { Int($0[0]) } == Array(1...max(1, rows.count)))
        #expect(rows.count >= page.rows)
        let all = Set(try CodeBlockTests.files("Tests", ".swift").flatMap { try CodeBlockTests.lines($0) })
        // A name is a literal, in a line that may begin with its attribute.
        let lines = all.filter { $0.hasPrefix("@Test") || $0.hasPrefix("\"") }
        for row in rows {
            let name = row[row.count - 1]
            // The numbers of rows of docs/faults.md may stand in front of it, and its first letter is small then.
            let ending = name.dropFirst(2)
            let isThere = lines.contains { $0.contains(ending) && !$0.hasPrefix("//") }
            #expect(name.hasPrefix("\"") && isThere, "\(page.page), row \(row[0]): no test is called \(name)")
        }
        print("\(page.page): \(rows.count) rows, each with its test")
    }
}
