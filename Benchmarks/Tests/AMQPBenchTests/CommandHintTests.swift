// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import AMQPBench

@Suite("Commands that do not exist")
struct CommandHintTests {
    @Test(
        "A misspelled command is answered with the one that was meant",
        arguments: [("pubish", "publish"), ("consum", "consume"), ("latancy", "latency"), ("rcp", "rpc")]
    )
    func meant(_ name: String, _ command: String) {
        let text = CommandHint.text(for: [name, "--size", "1k"], commands: AMQPBench.commandNames)
        #expect(text?.contains("Did you mean '\(command)'?") == true, "\(text ?? "nothing")")
    }

    @Test("A word that is like none is answered with all of them")
    func unknown() {
        let text = CommandHint.text(for: ["benchmark"], commands: AMQPBench.commandNames)
        #expect(text?.contains("Did you mean") == false)
        #expect(text?.contains("latency") == true)
    }

    @Test("Commands that are not for people are not named, and not meant")
    func hidden() {
        let text = CommandHint.text(
            for: ["embedded-brokr"],
            commands: AMQPBench.commandNames,
            hidden: AMQPBench.hiddenCommandNames
        )
        #expect(text?.contains("latency") == true)
        #expect(text?.contains("embedded-broker") == false, "\(text ?? "nothing")")
    }

    @Test(
        "Commands, options and no arguments are let through",
        arguments: [
            [], ["publish"], ["--size", "1k"], ["help"], ["broker"], ["report", "x.json"], ["embedded-broker"],
        ]
            as [[String]]
    )
    func known(_ arguments: [String]) {
        #expect(CommandHint.text(for: arguments, commands: AMQPBench.commandNames) == nil)
    }
}
