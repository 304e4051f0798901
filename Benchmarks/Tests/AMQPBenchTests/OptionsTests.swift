// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Testing

@testable import AMQPBench

@Suite("Options")
struct OptionsTests {
    static let refused = [
        ["--count", "0"], ["--count", "10", "--warmup", "1s"], ["--time", "0"], ["--interval", "50ms"],
        ["--producers", "0"], ["--producers", "1001"], ["--confirms", "0"], ["--confirms", "4194305"],
        ["--size", "17m"], ["--size", "big"], ["--consumers", "0"], ["--ack-every", "0"],
        ["--ack-every", "513"], ["--prefetch", "65536"], ["--broker", "none"], ["--id", "a b"], ["--id", ""],
        ["--no-such-option"],
    ]

    @Test("What cannot be measured is refused as wrong usage", arguments: refused)
    func refuses(_ arguments: [String]) {
        let error = #expect(throws: (any Error).self) { try AMQPBench.parseAsRoot(arguments) }
        if let error { #expect(AMQPBench.exitCode(for: error).rawValue == 64) }
    }

    static let accepted = [
        ["--count", "1"], ["--count", "10", "--warmup", "0"], ["--producers", "1000"], ["--confirms", "4194304"],
        ["--size", "16m"], ["--size", "0"], ["--ack-every", "512"], ["--ack-every", "600", "--prefetch", "0"],
        ["--ack-every", "600", "--auto-ack"], ["--interval", "100ms"], ["-H", "amqp://localhost", "-z", "3s"],
        ["-C", "10", "-x", "2", "-y", "2", "-s", "1k", "-c", "10", "-q", "10", "-A", "10", "-a", "-u", "orders"],
        ["publish", "--no-confirms"], ["consume", "--size", "1k"],
    ]

    @Test("The limits themselves are accepted, and the short letters", arguments: accepted)
    func accepts(_ arguments: [String]) throws {
        _ = try AMQPBench.parseAsRoot(arguments)
    }

    @Test("Without a command both is run, with the defaults of the help")
    func defaults() throws {
        let command = try #require(try AMQPBench.parseAsRoot([]) as? Both)
        let options = RunOptions(
            command: "both",
            common: command.common,
            publish: command.publishing,
            consume: command.consuming
        )
        #expect(options.time == 10)
        #expect(options.warmup == 2)
        #expect(options.count == nil)
        #expect(options.size == 256)
        #expect(options.confirms == 1024)
        #expect(options.prefetch == 512)
        #expect(options.ackEvery == 64)
        #expect(options.producers == 1 && options.consumers == 1)
    }

    @Test("A count takes the place of time and warm-up")
    func count() throws {
        let command = try #require(try AMQPBench.parseAsRoot(["--count", "5"]) as? Both)
        let options = RunOptions(
            command: "both",
            common: command.common,
            publish: command.publishing,
            consume: command.consuming
        )
        #expect(options.count == 5)
        #expect(options.time == nil)
        #expect(options.warmup == 0)
    }

    @Test("The help of the tool fits on a screen")
    func help() {
        let help = AMQPBench.helpMessage()
        #expect(help.split(separator: "\n", omittingEmptySubsequences: false).count < 60)
        #expect(help.contains("amqp-bench --broker rabbitmq"))
    }
}
