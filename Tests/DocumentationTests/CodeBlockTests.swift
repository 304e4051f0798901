// SPDX-License-Identifier: Apache-2.0
import FoundationEssentials
import Testing

// CodeBlockTests: every block of Swift in an article, on a landing page and in the README stands in a program that is
// compiled: one of Snippets/, an example, or a test. Indentation and the marks `// snippet.…` do not count.

@Suite("Code in the documentation")
struct CodeBlockTests {
    static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    static func files(_ folder: String, _ ending: String) -> [String] {
        let path = Self.root.appending(path: folder).path
        let names = (try? FileManager.default.subpathsOfDirectory(atPath: path)) ?? []
        return names.filter { $0.hasSuffix(ending) && !$0.contains(".build") }.map { "\(folder)/\($0)" }.sorted()
    }

    static func lines(_ file: String) throws -> [String] {
        let data = try Data(contentsOf: Self.root.appending(path: file))
        return String(decoding: data, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
            .map { Self.trimmed($0) }
            .filter { !$0.hasPrefix("// snippet.") }
    }

    static func trimmed(_ line: Substring) -> String {
        let octets = line.utf8
        guard let first = octets.firstIndex(where: { $0 != UInt8(ascii: " ") }) else { return "" }
        let last = octets.lastIndex { $0 != UInt8(ascii: " ") } ?? first
        return String(line[first...last])
    }

    /// The compiled programs; read once for all pages.
    static let programs = Result {
        try (Self.files("Snippets", ".swift") + Self.files("Tests", ".swift") + Self.files("Examples", ".swift"))
            .map { try Self.lines($0) }
    }

    /// The blocks of Swift in a page.
    static func blocks(_ lines: [String]) -> [[String]] {
        var blocks: [[String]] = []
        var block: [String]?
        for line in lines {
            if block == nil {
                if line == "```swift" { block = [] }
            } else if line == "```" {
                blocks.append(block ?? [])
                block = nil
            } else {
                block?.append(line)
            }
        }
        return blocks
    }

    static func contains(_ program: [String], _ block: [String]) -> Bool {
        guard !block.isEmpty, program.count >= block.count else { return false }
        return (0...program.count - block.count).contains { program[$0..<$0 + block.count].elementsEqual(block) }
    }

    static let pages = ["README.md"] + CodeBlockTests.files("Sources", ".md")

    @Test("Every code block is part of a compiled program", arguments: pages)
    func compiled(_ page: String) throws {
        let programs = try Self.programs.get()
        for block in Self.blocks(try Self.lines(page)) {
            // Lines for a manifest, not for a program.
            guard !block.contains(where: { $0.hasPrefix(".package(") }) else { continue }
            #expect(programs.contains { Self.contains($0, block) }, "\(page): \(block.first ?? "an empty block") …")
        }
    }

    @Test("Pages and code blocks are found")
    func found() throws {
        #expect(Self.pages.count > 10)
        let count = try Self.pages.reduce(0) { try $0 + Self.blocks(Self.lines($1)).count }
        #expect(count > 20)
    }
}
