// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Testing

@testable import AMQPBench

@Suite("Options")
struct OptionsTests {
    static let refused = [
        ["--count", "0"], ["--count", "10", "--warmup", "1s"], ["--time", "0"], ["--time", "999999999h"],
        ["--interval", "50ms"],
        ["--producers", "0"], ["--producers", "1001"], ["--confirms", "0"], ["--confirms", "4194305"],
        ["--size", "17m"], ["--size", "big"], ["--consumers", "0"], ["--ack-every", "0"],
        ["--ack-every", "513"], ["--prefetch", "65536"], ["--broker", "none"], ["--id", "a b"], ["--id", ""],
        ["--no-such-option"], ["--property", "x=1"], ["--property", "priority=256"], ["--property", "type"],
        ["--exchange-type", "topic"], ["--exchange", "e", "--exchange-type", "x"],
        ["--consumer-arg", "x"], ["--size", "4k:64"], ["--broker", "docker:"], ["--broker", "rabbitmq:"],
        ["compare", "a.json"], ["compare", "--run", "x"], ["compare", "a.json", "--run", "x", "--run", "y"],
        ["--broker", "rabbitmq:1.0"], ["--broker", "embedded:4.3"], ["--verify", "--size", "39"],
        ["--fault", "kill@5s", "--uri", "amqp://localhost"], ["--fault", "kill@5s", "--queue-type", "stream"],
        ["--rate", "5", "--rate-profile", "1k:1s"], ["--rate-profile", "1k"], ["--predeclared"], ["--header", "x"],
        ["--predeclared", "--queue", "q", "--queue-arg", "x-max-length=1"], ["--exchange", "e", "--queues", "2"],
        ["--predeclared", "--exchange", "e"], ["--threads", "0"], ["--threads", "65"], ["--instances", "2"],
        ["--instances", "2", "--id", "a"], ["--exit-when", "empty"], ["--body", "/no/such/file"],
        ["latency", "--size", "31"], ["consume", "--size", "17m"], ["consume", "--size", "64:9223372036854775807"],
        ["rpc", "--size", "39"], ["rpc", "--fault", "kill@1s"],
        ["churn", "--what", "host"], ["--reconnect", "--queue-type", "stream"], ["rpc", "--reconnect"], ["--requeue"],
        ["--nack", "--auto-ack"], ["--key-distribution", "zipf"],
        ["--routing-key", "a", "--key-distribution", "random"],
        ["--reconnect", "--instances", "2", "--id", "a", "--uri", "amqp://a"], ["--fault-command", "kill"],
        ["sweep"], ["sweep", "--over", "size"], ["sweep", "--over", "size=1,"], ["sweep", "--over", "colour=red"],
        ["sweep", "--over", "size=1,2", "--command", "latency"], ["rpc", "--rate", "0"], ["--rate", "auto"],
        ["publish", "--rate", "auto"], ["rpc", "--rate", "auto"], ["churn", "--rate", "-1"],
        ["-X", "0"], ["-Y", "101"], ["--polling-interval", "1s"], ["--polling", "--queue-type", "stream"],
        ["--tx-size", "0"], ["--tx-size", "5", "--confirms", "5"], ["-m", "5", "--no-confirms"],
        ["-m", "5", "--mandatory"],
        ["-n", "5", "--auto-ack"], ["-n", "513"],
        ["--queue-pattern", "q"], ["--queue-pattern", "q-%d"], ["--queue-pattern", "q-%s", "--queue-to", "3"],
        ["--queue-to", "3"], ["--queue-pattern", "q-%d", "--queue-to", "0"],
        ["--queue-pattern", "q-%d", "--queue-to", "3", "--queue", "a"], ["--queue-file", "/no/such/file"],
        ["rpc", "--queue-pattern", "q-%d", "--queue-to", "3"],
        ["--consumer-start-delay", "12s"], ["-S", "-y", "20"], ["-S", "-y", "2", "--queue-type", "stream"],
        ["--producer-random-start-delay", "1s", "-r", "5"], ["--exclusive", "--queue", "q"],
        ["--exclusive", "--queue-type", "quorum"], ["--exclusive", "--reconnect"], ["publish", "--auto-delete"],
        ["rpc", "--exclusive"], ["--auto-delete", "--predeclared", "--queue", "q"],
        ["--polling", "--consumer-arg", "x-priority=1"],
        ["sweep", "--over", "size=big"], ["sweep", "--over", "uri=amqp://a"],
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
        ["--property", "priority=255", "--property", "contentType=text/plain"], ["--consumer-arg", "x-priority=10"],
        ["--exchange", "e", "--exchange-type", "fanout"],
        ["--queue-pattern", "perf-%03d", "--queue-from", "5", "--queue-to", "9"],
        ["--consumer-start-delay", "11s"], ["-S", "-y", "3", "-E"], ["--auto-delete", "--queue", "q"],
        ["--producer-random-start-delay", "1s"],
        ["-m", "100", "-n", "50"], ["-n", "1000", "--polling"],
        ["-X", "3", "-Y", "2", "--channels", "4"], ["--polling", "--polling-interval", "10ms", "-A", "1000"],
        ["publish", "--no-confirms"], ["consume", "--size", "1k"], ["--size", "64:4k"], ["--verify", "--size", "40"],
        ["--broker", "docker:3.13-management"], ["--broker", "rabbitmq:4.3"], ["--broker", "rabbitmq:forky"],
        ["--fault", "kill@5s", "--queue-type", "quorum"], ["--threads", "64"],
        ["--rate-profile", "1k:10s,5k:10s"], ["-p", "--queue", "q"], ["publish", "-p", "--exchange", "e"],
        ["-H", "amqp://a", "-H", "amqp://b"], ["--instances", "2", "--id", "a", "--uri", "amqp://a"],
        ["--header", "a=1", "--header", "b=c", "--queue-arg", "x-max-length=1000"], ["consume", "--exit-when", "idle"],
        ["latency", "--size", "32"], ["rpc", "-c", "16", "-x", "2", "-y", "2"], ["churn", "--what", "channel"],
        ["sweep", "--over", "size=64,1k", "--time", "1s", "--confirms", "10"],
        ["sweep", "--over", "in-flight=1,16", "--command", "rpc"],
        ["sweep", "--over", "rate=1k,5k", "--command", "latency"],
        ["sweep", "--over", "size=64,1k", "--command", "latency", "--rate", "100"],
        ["sweep", "--over", "what=connection,channel", "--command", "churn"],
        ["latency", "--rate", "auto"], ["latency", "-r", "5k"], ["rpc", "--rate", "100", "-c", "4"],
        ["churn", "-r", "10"], ["-x5", "-y2", "-s1k", "-c100", "-q600", "-A10", "-z3s", "-C10k"], ["--time", "1m30s"],
        ["compare", "a.json", "b.json"], ["compare", "--run", "--size 1k", "--run", "--size 2k", "--pairs", "4"],
        ["--nack", "--requeue"], ["--routing-key", "a", "--routing-key", "b", "--key-distribution", "random"],
        ["--reconnect", "-H", "amqp://a", "-H", "amqp://b"], ["--fault-command", "docker kill rabbit2@5s"],
        ["--consumer-work", "100us"], ["--size", "1kb"], ["publish", "-r5k"],
    ]

    @Test("The limits themselves are accepted, and the short letters", arguments: accepted)
    func accepts(_ arguments: [String]) throws {
        _ = try AMQPBench.parseAsRoot(arguments)
    }

    @Test("Without a command both is run, with the defaults of the help")
    func defaults() throws {
        let command = try #require(try AMQPBench.parseAsRoot([]) as? Both)
        let options = try command.options()
        #expect(options.time == 10)
        #expect(options.warmup == 2)
        #expect(options.count == nil)
        #expect(options.size == 256)
        #expect(options.confirms == 1024)
        #expect(options.prefetch == 512)
        #expect(options.ackEvery == 64)
        #expect(options.producers == 1 && options.consumers == 1)
    }

    @Test(
        "The window of many producers is a part of what all may have unconfirmed, unless it is given",
        arguments: [
            ([], 1024), (["--producers", "32"], 1024), (["--producers", "1000"], 32),
            (["--producers", "1000", "--confirms", "500"], 500), (["--no-confirms"], nil),
        ]
    )
    func confirmWindow(_ arguments: [String], _ window: Int?) throws {
        let command = try #require(try AMQPBench.parseAsRoot(arguments) as? Both)
        #expect(try command.options().confirms == window)
    }

    @Test("A count takes the place of time and warm-up")
    func count() throws {
        let command = try #require(try AMQPBench.parseAsRoot(["--count", "5"]) as? Both)
        let options = try command.options()
        #expect(options.count == 5)
        #expect(options.time == nil)
        #expect(options.warmup == 0)
        let both = try #require(try AMQPBench.parseAsRoot(["--count", "10k", "--time", "1m30s"]) as? Both).options()
        #expect(both.count == 10_000)
        #expect(both.time == 90)
    }

    @Test("What may be in the queues is bounded, unless that is not wanted or others use them")
    func bounds() throws {
        func both(_ arguments: [String]) throws -> RunOptions {
            try #require(try AMQPBench.parseAsRoot(arguments) as? Both).options()
        }
        #expect(try both([]).backlog == 5120)
        #expect(try both(["-y", "2", "-q", "100"]).backlog == 2000)
        #expect(try both(["--backlog", "10k"]).backlog == 10_000)
        #expect(try both(["--backlog", "0"]).backlog == nil)
        #expect(try both(["--queue", "q"]).backlog == nil)
        func publish(_ arguments: [String]) throws -> RunOptions {
            try #require(try AMQPBench.parseAsRoot(["publish"] + arguments) as? Publish).options()
        }
        #expect(try publish([]).sink == 100_000)
        #expect(try publish(["--count", "100k"]).sink == nil)
        #expect(try publish(["--queue", "q"]).sink == nil)
        #expect(try publish(["--queue-arg", "x-max-length=5"]).sink == nil)
    }

    @Test("Messages of latency are verified where they have room, unless that is not wanted")
    func verify() throws {
        func options(_ arguments: [String]) throws -> RunOptions {
            try #require(try AMQPBench.parseAsRoot(["latency"] + arguments) as? Latency).options()
        }
        #expect(try options([]).verify)
        #expect(try !options(["--no-verify"]).verify)
        #expect(try !options(["--size", "32"]).verify)
        #expect(try !#require(try AMQPBench.parseAsRoot([]) as? Both).options().verify)
    }

    @Test("A broker that is killed gets messages it must keep")
    func kill() throws {
        let options = try #require(try AMQPBench.parseAsRoot(["--fault", "kill@1s"]) as? Both).options()
        #expect(options.resumes && options.persistent)
    }

    @Test("A profile of rates takes the place of the time")
    func profile() throws {
        let arguments = ["--rate-profile", "1k:10s,4k:20s", "--warmup", "2s"]
        let options = try #require(try AMQPBench.parseAsRoot(arguments) as? Both).options()
        #expect(options.rate == 3000)
        #expect(options.time == 28)
        #expect(options.warmup == 2)
    }

    @Test("A sweep is one run of the command for each value")
    func sweep() throws {
        let arguments = ["sweep", "--over", "size=64,1k", "--producers", "3", "--id", "x"]
        let steps = try #require(try AMQPBench.parseAsRoot(arguments) as? Sweep).steps()
        #expect(steps.map(\.value) == ["64", "1k"])
        #expect(steps.map(\.options.size) == [64, 1024])
        #expect(steps.allSatisfy { $0.options.producers == 3 && $0.common.id == "x" })
    }

    @Test("What is explained is what was asked for")
    func explanation() throws {
        let command = try #require(try AMQPBench.parseAsRoot(["--rate", "5k", "--auto-ack"]) as? Both)
        let text = Explanation(try command.options(), command.common).lines.joined(separator: "\n")
        for part in ["nothing is sent", "--rate 5 000/s", "--auto-ack", "--confirms 1024", "--broker embedded"] {
            #expect(text.contains(part), "\(part)")
        }
    }

    @Test("The help of the tool fits on a screen")
    func help() {
        let help = AMQPBench.helpMessage()
        #expect(help.split(separator: "\n", omittingEmptySubsequences: false).count < 60)
        #expect(help.contains("amqp-bench --broker rabbitmq"))
    }
}
