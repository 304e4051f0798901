// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Testing

@testable import AMQPBench

@Suite("Options from the environment")
struct EnvironmentOptionsTests {
    @Test("An option of the environment takes its place behind the command")
    func options() {
        let environment = ["AMQP_BENCH_ACK_EVERY": "10", "AMQP_BENCH_SIZE": "1k", "PATH": "/bin"]
        #expect(
            EnvironmentOptions.merge(["both", "--time", "3s"], environment)
                == ["both", "--ack-every=10", "--size=1k", "--time", "3s"]
        )
        #expect(EnvironmentOptions.merge([], environment) == ["--ack-every=10", "--size=1k"])
    }

    @Test("The command line wins, in every spelling", arguments: [["--size", "2k"], ["--size=2k"], ["-s", "2k"]])
    func commandLineWins(_ arguments: [String]) {
        #expect(EnvironmentOptions.merge(arguments, ["AMQP_BENCH_SIZE": "1k"]) == arguments)
    }

    @Test(
        "A flag is set by 1, true or yes",
        arguments: [("1", true), ("TRUE", true), ("yes", true), ("0", false), ("", false)]
    )
    func flags(_ value: String, _ isSet: Bool) {
        #expect(EnvironmentOptions.merge([], ["AMQP_BENCH_PERSISTENT": value]) == (isSet ? ["--persistent"] : []))
    }

    @Test("A flag with an opposite is set or unset, and the command line wins")
    func opposites() {
        #expect(EnvironmentOptions.merge([], ["AMQP_BENCH_VERIFY": "yes"]) == ["--verify"])
        #expect(EnvironmentOptions.merge(["latency"], ["AMQP_BENCH_VERIFY": "0"]) == ["latency", "--no-verify"])
        #expect(EnvironmentOptions.merge(["--no-verify"], ["AMQP_BENCH_VERIFY": "1"]) == ["--no-verify"])
    }

    @Test("A sweep has the options of what it sweeps")
    func sweep() {
        let merged = EnvironmentOptions.merge(["sweep", "--over", "size=1,2"], ["AMQP_BENCH_PRODUCERS": "3"])
        #expect(merged == ["sweep", "--producers=3", "--over", "size=1,2"])
    }

    @Test("What a command does not have is left out")
    func unknown() {
        let environment = [
            "AMQP_BENCH_URI": "amqp://localhost", "AMQP_BENCH_BROKER_SCRIPT": "/x", "AMQP_BENCH_SIZE": "1k",
        ]
        #expect(EnvironmentOptions.merge(["compare", "a", "b"], environment) == ["compare", "a", "b"])
        #expect(
            EnvironmentOptions.merge(["consume"], environment)
                == ["consume", "--size=1k", "--uri=amqp://localhost"]
        )
    }

    @Test("A variable of no option is told, with the one that was meant")
    func misspelled() throws {
        let hint = try #require(EnvironmentOptions.hint(for: ["AMQP_BENCH_PRODUCER": "3", "AMQP_BENCH_SIZE": "1k"]))
        #expect(hint.contains("AMQP_BENCH_PRODUCER,") && hint.contains("Did you mean AMQP_BENCH_PRODUCERS?"))
        #expect(EnvironmentOptions.hint(for: ["AMQP_BENCH_WHATEVER_ELSE": "1"])?.contains("Did you mean") == false)
    }

    @Test("Options of other commands, and what is no option by design, are not told")
    func known() {
        let environment = [
            "AMQP_BENCH_WHAT": "channel", "AMQP_BENCH_OVER": "size=1", "AMQP_BENCH_BROKER_SCRIPT": "/x", "PATH": "/",
        ]
        #expect(EnvironmentOptions.hint(for: environment) == nil)
    }

    @Test("What the environment gives is parsed like the command line")
    func parses() throws {
        let arguments = EnvironmentOptions.merge([], ["AMQP_BENCH_RATE": "5k", "AMQP_BENCH_PRODUCERS": "3"])
        let command = try #require(try AMQPBench.parseAsRoot(arguments) as? Both)
        #expect(command.publishing.rate?.perSecond == 5000)
        #expect(command.publishing.producers == 3)
    }
}
