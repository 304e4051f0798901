// SPDX-License-Identifier: Apache-2.0

// CommandHint: what to say of a command that does not exist. Pure.

/// The command that was meant.
enum CommandHint {
    /// The largest number of letters that may differ.
    private static let reach = 2

    /// What to say of the first argument; nil when it is a command, an option, or missing.
    ///
    /// - Parameters:
    ///   - arguments: The arguments of the program.
    ///   - commands: The names of its commands.
    ///   - hidden: Those of them that are not for people.
    /// - Returns: A sentence that names the commands there are.
    static func text(for arguments: [String], commands: [String], hidden: [String] = []) -> String? {
        guard let name = arguments.first, !name.hasPrefix("-"), !name.isEmpty, !commands.contains(name) else {
            return nil
        }
        let shown = commands.filter { !hidden.contains($0) }
        let hint = Self.nearest(to: name, of: shown).map { " Did you mean '\($0)'?" } ?? ""
        return "there is no command '\(name)'.\(hint) There are: \(shown.joined(separator: ", "))."
    }

    /// The name that was meant; nil when none is near.
    static func nearest(to name: String, of names: [String]) -> String? {
        let nearest = names.map { (name: $0, distance: Self.distance(Array(name), Array($0))) }
            .min { $0.distance < $1.distance }
        return nearest.flatMap { $0.distance <= Self.reach ? $0.name : nil }
    }

    /// Letters to insert, to take out or to change.
    private static func distance(_ one: [Character], _ other: [Character]) -> Int {
        var row = Array(0...other.count)
        for (index, letter) in one.enumerated() {
            var diagonal = row[0]
            row[0] = index + 1
            for place in other.indices {
                let changed = diagonal + (letter == other[place] ? 0 : 1)
                diagonal = row[place + 1]
                row[place + 1] = min(changed, row[place] + 1, row[place + 1] + 1)
            }
        }
        return row[other.count]
    }
}
