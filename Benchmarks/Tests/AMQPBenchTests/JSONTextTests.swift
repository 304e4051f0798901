// SPDX-License-Identifier: Apache-2.0
import Foundation
import Testing

@testable import AMQPBench

@Suite("JSON text")
struct JSONTextTests {
    @Test(
        "Lists of numbers are on one line, and nothing else is changed",
        arguments: [
            ("[\n  1,\n  23\n]", "[1,23]"),
            ("[\n  [\n    1,\n    2\n  ],\n  [\n    3\n  ]\n]", "[\n  [1,2],\n  [3]\n]"),
            ("[\n  \"a\"\n]", "[\n  \"a\"\n]"),
            ("{ \"a [\\\"[ 1 ]\" : [\n  1\n] }", "{ \"a [\\\"[ 1 ]\" : [1] }"),
            ("[\n\n]", "[]"),
            ("[\n  1", "[\n  1"),
        ]
    )
    func compact(_ text: String, _ expected: String) {
        #expect(String(decoding: JSONText.compact(Array(text.utf8)), as: UTF8.self) == expected)
    }

    @Test("What is read from it is what was written")
    func roundTrip() throws {
        let value = ["a": [[1, 2], [3, 4]], "b \"[ 1 ]\\": [[]]]
        let read = try JSONDecoder().decode([String: [[Int]]].self, from: JSONText.of(value))
        #expect(read == value)
    }
}
