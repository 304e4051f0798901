// SPDX-License-Identifier: Apache-2.0
import ArgumentParser

// EnvironmentOptions: every option from the environment too: AMQP_BENCH_ACK_EVERY=10 is --ack-every 10 for the commands
// that have it, unless it is given on the command line. A flag is set by 1, true or yes. Pure.

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
