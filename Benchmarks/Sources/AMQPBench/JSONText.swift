// SPDX-License-Identifier: Apache-2.0
import Foundation

// JSONText: results as JSON that people can read too. A pair of numbers stands on one line: the histograms are lists of
// them, and would make four lines of each.

/// Results as text.
enum JSONText {
    /// A result with its keys in order, and the end of a line.
    ///
    /// - Parameter value: The result.
    /// - Returns: The text.
    /// - Throws: What encoding it throws.
    static func of(_ value: some Encodable) throws -> Data {
        Data(Self.compact([UInt8](try Report.encoder.encode(value)))) + Data("\n".utf8)
    }

    /// The same text with each list of nothing but whole numbers on one line.
    static func compact(_ text: [UInt8]) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(text.count)
        var isInString = false
        var place = 0
        while place < text.count {
            let octet = text[place]
            if isInString {
                if octet == UInt8(ascii: "\\"), place + 1 < text.count {
                    result.append(octet)
                    place += 1
                } else if octet == UInt8(ascii: "\"") {
                    isInString = false
                }
            } else if octet == UInt8(ascii: "\"") {
                isInString = true
            } else if octet == UInt8(ascii: "["), let end = Self.endOfNumbers(text, from: place + 1) {
                result += text[place...end].filter { !Self.isSpace($0) }
                place = end + 1
                continue
            }
            result.append(text[place])
            place += 1
        }
        return result
    }

    /// Where a list of numbers ends; nil for any other list.
    private static func endOfNumbers(_ text: [UInt8], from start: Int) -> Int? {
        for place in start..<text.count {
            switch text[place] {
            case UInt8(ascii: "]"): return place
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: ","): continue
            case let octet where Self.isSpace(octet): continue
            default: return nil
            }
        }
        return nil
    }

    private static func isSpace(_ octet: UInt8) -> Bool { octet == UInt8(ascii: " ") || octet == UInt8(ascii: "\n") }
}
