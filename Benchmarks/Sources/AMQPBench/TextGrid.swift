// SPDX-License-Identifier: Apache-2.0

// TextGrid: tables and lines that fit a terminal. A table has its full widths where they fit, narrow ones where they do
// not, and then leaves out the columns that say least. Pure. How wide the terminal is: Screen.

/// A column of a table whose rows are written one after the other.
struct TextColumn: Sendable {
    var name: String
    /// Its name in a narrow table; the same by default.
    var short: String?
    /// Its width where there is room, the blanks before it included.
    var width: Int
    /// The smallest width that its values fit in.
    var narrow: Int
    /// The column with the smallest weight is left out first; 0 is never left out.
    var weight: Int
    /// Text stands left, numbers stand right.
    var isText = false
}

/// The columns of a table, laid out for a width.
struct TextGrid: Sendable {
    /// True when the narrow widths are used.
    let isNarrow: Bool
    /// The width of each column; nil for one that is left out.
    private let widths: [Int?]
    private let columns: [TextColumn]

    /// Lays out columns.
    ///
    /// - Parameters:
    ///   - columns: All that the table can have.
    ///   - width: Characters of a line; nil for as many as it takes.
    ///   - mark: Characters that may follow a row, and a narrow one.
    init(_ columns: [TextColumn], width: Int?, mark: (wide: Int, narrow: Int) = (0, 0)) {
        self.columns = columns
        guard let width, columns.reduce(mark.wide, { $0 + $1.width }) > width else {
            self.isNarrow = false
            self.widths = columns.map(\.width)
            return
        }
        self.isNarrow = true
        var widths = columns.map { Optional($0.narrow) }
        while widths.reduce(0, { $0 + ($1 ?? 0) }) > width - mark.narrow {
            let left = columns.indices.filter { widths[$0] != nil && columns[$0].weight > 0 }
            guard let least = left.min(by: { columns[$0].weight < columns[$1].weight }) else { break }
            widths[least] = nil
        }
        self.widths = widths
    }

    /// The names of the columns.
    var head: String { self.row(self.columns.map { self.isNarrow ? $0.short ?? $0.name : $0.name }) }

    /// A row.
    ///
    /// - Parameter cells: One for each column, those that are left out included.
    /// - Returns: A line.
    func row(_ cells: [String]) -> String {
        var text = ""
        for (index, cell) in cells.enumerated() {
            guard let width = self.widths[index] else { continue }
            text += self.columns[index].isText ? Text.left(cell, width) : Text.right(cell, width)
        }
        return text
    }
}

extension Text {
    /// Breaks a line at blanks so that each part fits, with the later parts set in.
    ///
    /// Escapes take no room. A word that is longer than the line stays whole.
    static func wrapped(_ line: String, width: Int) -> [String] {
        guard self.visibleCount(line) > width, width > 0 else { return [line] }
        let indent = line.prefix { $0 == " " }.count
        let margin = String(repeating: " ", count: min(indent + 4, width / 3))
        var lines: [String] = []
        var rest = line
        while self.visibleCount(rest) > width, let place = self.place(to: rest, width) {
            lines.append(String(rest[..<place]).trimmingBlanksAtEnd)
            rest = margin + rest[place...].drop { $0 == " " }
        }
        return lines + [rest]
    }

    /// Characters that are seen.
    static func visibleCount(_ text: String) -> Int {
        var (count, isEscape) = (0, false)
        for character in text {
            if isEscape {
                isEscape = character != "m"
            } else if character == "\u{1B}" {
                isEscape = true
            } else {
                count += 1
            }
        }
        return count
    }

    /// Where to break a line that is too long: before two blanks or more if those come late enough, else before one.
    private static func place(to line: String, _ width: Int) -> String.Index? {
        var (count, isEscape, hasText) = (0, false, false)
        var single: String.Index?
        var several: (index: String.Index, count: Int)?
        for index in line.indices {
            let character = line[index]
            if isEscape {
                isEscape = character != "m"
                continue
            }
            if character == "\u{1B}" {
                isEscape = true
                continue
            }
            if count > width { break }
            if character == " " {
                let next = line.index(after: index)
                if hasText {
                    single = index
                    if next < line.endIndex, line[next] == " " { several = (index, count) }
                }
            } else {
                hasText = true
            }
            count += 1
        }
        if let several, several.count * 2 > width { return several.index }
        return single
    }
}
