// SPDX-License-Identifier: Apache-2.0
import ArgumentParser

// EnvironmentOptions: every option from the environment too: AMQP_BENCH_ACK_EVERY=10 is --ack-every 10 for the commands
// that have it, unless it is given on the command line. A flag is set by 1, true or yes. A variable of no option at all is
// told, as an option that does not exist. Pure.

/// Reads options from the environment.
enum EnvironmentOptions {
    static let prefix = "AMQP_BENCH_"

    /// The arguments of the tool with those of the environment put in.
    ///
    /// - Parameters:
    ///   - arguments: What was given on the command line.
    ///   - environment: The environment.
    /// - Returns: The command, what the environment says, and the rest of the command line.
    static func merge(_ arguments: [String], _ environment: [String: String]) -> [String] {
        var rest = arguments
        let commands = AMQPBench.configuration.subcommands
        var command: any ParsableCommand.Type = Both.self
        var result: [String] = []
        if let first = rest.first, let named = commands.first(where: { $0._commandName == first }) {
            command = named
            result.append(rest.removeFirst())
        }
        // Behind the options of sweep come those of what is swept.
        let options = Option.all(of: command) + (command == Sweep.self ? Option.all(of: Both.self) : [])
        for (name, value) in environment.sorted(by: { $0.key < $1.key }) where name.hasPrefix(Self.prefix) {
            let long = "--" + name.dropFirst(Self.prefix.count).lowercased().replacing("_", with: "-")
            guard let option = options.first(where: { $0.long == long }), !option.isGiven(in: rest) else { continue }
            if option.takesValue {
                result.append("\(long)=\(value)")
            } else if ["1", "true", "yes"].contains(value.lowercased()) {
                result.append(long)
            } else if let opposite = option.opposite, ["0", "false", "no"].contains(value.lowercased()) {
                result.append(opposite)
            }
        }
        return result + rest
    }

    /// Variables that are no options: ./amqp-bench and the tests read them.
    private static let others: Set<String> = ["AMQP_BENCH_BROKER_SCRIPT", "AMQP_BENCH_PROXY_TABLE"]

    /// A sentence about the first variable that is no option of any command; nil for none.
    ///
    /// - Parameter environment: The environment.
    /// - Returns: The sentence, with the nearest variable there is.
    static func hint(for environment: [String: String]) -> String? {
        let names = environment.keys.filter { $0.hasPrefix(Self.prefix) && !Self.others.contains($0) }
        guard !names.isEmpty else { return nil }
        let known = Set(
            AMQPBench.configuration.subcommands.flatMap { Option.all(of: $0) }
                .map { Self.prefix + $0.long.dropFirst(2).uppercased().replacing("-", with: "_") }
        )
        guard let unknown = names.sorted().first(where: { !known.contains($0) }) else { return nil }
        let hint = CommandHint.nearest(to: unknown, of: known.sorted()).map { " Did you mean \($0)?" }
        return "the environment has \(unknown), and no command has that option.\(hint ?? "")"
    }

    /// An option, as the help of a command lists it.
    private struct Option {
        var long: String
        var short: String?
        var takesValue: Bool
        /// Of a flag that can be turned off too.
        var opposite: String?

        static func all(of command: any ParsableCommand.Type) -> [Option] {
            AMQPBench.helpMessage(for: command, columns: 200).split(separator: "\n").compactMap { line in
                // "  -r, --rate <rate>      Messages …"
                let words = line.split(separator: " ").map(String.init)
                guard line.hasPrefix("  -"), let index = words.firstIndex(where: { $0.hasPrefix("--") }), index < 2
                else {
                    return nil
                }
                // "  --verify/--no-verify  Put …"
                let names = words[index].split(separator: "/").map(String.init)
                return Option(
                    long: names[0],
                    short: index == 1 ? String(words[0].dropLast()) : nil,
                    takesValue: words.count > index + 1 && words[index + 1].hasPrefix("<"),
                    opposite: names.count > 1 ? names[1] : nil
                )
            }
        }

        func isGiven(in arguments: [String]) -> Bool {
            arguments.contains { argument in
                argument == self.long || argument.hasPrefix(self.long + "=") || argument == self.short
                    || argument == self.opposite
            }
        }
    }
}
