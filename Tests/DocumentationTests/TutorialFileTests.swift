// SPDX-License-Identifier: Apache-2.0
import FoundationEssentials
import Testing

// TutorialFileTests: the tutorials name files that are there, and what the last step of one shows is run by a test.
// Not here: that each step compiles; scripts/docs checks it.

@Suite("Tutorials in the documentation")
struct TutorialFileTests {
    static let tutorials = CodeBlockTests.files("Sources", ".tutorial")

    /// The files that a tutorial names, in order.
    static func files(_ tutorial: String) throws -> [String] {
        try CodeBlockTests.lines(tutorial).compactMap { line -> String? in
            for mark in ["file: ", "@Image(source: \""] {
                guard let range = line.firstRange(of: mark) else { continue }
                return String(line[range.upperBound...].prefix { $0 != ")" && $0 != "\"" })
            }
            return nil
        }
    }

    @Test("Every file named in a tutorial exists, and every file is named")
    func named() throws {
        #expect(Self.tutorials.count >= 3)
        let named = Set(try Self.tutorials.flatMap { try Self.files($0) })
        let there = CodeBlockTests.files("Sources", ".swift").filter { $0.contains(".docc/Resources/") }
            .compactMap { $0.split(separator: "/").last.map { String($0) } }
        #expect(there.count > 10)
        #expect(Set(there) == named.filter { $0.hasSuffix(".swift") })
        for image in named where image.hasSuffix(".svg") {
            #expect(!CodeBlockTests.files("Sources/AMQP091/AMQP091.docc", image).isEmpty, "\(image)")
        }
    }

    @Test("Each step adds to the one before: most of its lines stay")
    func steps() throws {
        for tutorial in Self.tutorials {
            let steps = try Self.files(tutorial).filter { $0.hasSuffix(".swift") }.map {
                Set(try CodeBlockTests.lines("Sources/AMQP091/AMQP091.docc/Resources/\($0)"))
            }
            for (step, next) in zip(steps, steps.dropFirst()) {
                #expect(step.intersection(next).count * 2 > step.count, "\(tutorial)")
                #expect(step != next, "\(tutorial)")
            }
        }
    }

    @Test("The last tests of the tutorial are run by this package's tests, as they stand there")
    func run() throws {
        let shown = try CodeBlockTests.lines("Sources/AMQP091/AMQP091.docc/Resources/tests-6.swift")
        let run = try CodeBlockTests.lines("Tests/AMQP091TestingTests/TutorialExample.swift")
        #expect(CodeBlockTests.contains(run, shown))
    }
}
