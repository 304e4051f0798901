// SPDX-License-Identifier: Apache-2.0
import Foundation
import Testing

@testable import AMQPBench

// LauncherTests: ./amqp-bench, which builds the tool and runs it, in a copy of the checkout's outline with programs in place of
// swift and of the scripts that note when they were called.

@Suite("The launcher", .timeLimit(.minutes(2)))
struct LauncherTests {
    /// Runs the launcher with arguments; each line of the answer is an event.
    private static func run(_ arguments: String, environment: [String: String] = [:]) async throws -> [String] {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../../..")
        return try await Tool.withDirectory { directory in
            let prepare = """
                mkdir -p bin scripts Benchmarks .build-bench && touch Benchmarks/Package.swift
                cp '\(root.appendingPathComponent("amqp-bench").standardizedFileURL.path)' .
                cat > bin/swift <<'END'
                #!/bin/bash
                case $1 in
                    --version) echo 'Swift version 6.3.1' ;;
                    build)
                        echo build >> log
                        for _ in {1..500}; do [ -e begun ] || [ ! -e wanted ] && break; sleep 0.02; done
                        [ -e begun ] && echo 'installing meanwhile' >> log
                        [ -e broken ] && exit 1
                        mkdir -p .build-bench/release
                        printf '#!/bin/bash\\necho "tool $*" >> log\\n' > .build-bench/release/amqp-bench
                        chmod +x .build-bench/release/amqp-bench ;;
                esac
                END
                printf '#!/bin/bash\\ntouch begun; sleep 0.3; echo "installed ${0##*/} $*" >> log\\n' > scripts/broker
                cp scripts/broker scripts/rabbitmq
                chmod +x bin/swift scripts/*
                """
            let text = "\(prepare)\n\(arguments)\ncat log"
            let path = directory + "/bin:" + (ProcessInfo.processInfo.environment["PATH"] ?? "")
            let result = try await Tool.bash(
                text,
                in: directory,
                environment: environment.merging(["PATH": path]) { $1 }
            )
            return result.output.split(separator: "\n").map(String.init)
        }
    }

    @Test(
        "RabbitMQ is installed while the tool is built, and before it runs",
        arguments: [
            ("--broker rabbitmq", "installed broker install"), ("--broker=rabbitmq", "installed broker install"),
            ("latency --broker rabbitmq:4.3", "installed rabbitmq 4.3"),
        ]
    )
    func sideBySide(_ arguments: String, _ installed: String) async throws {
        let events = try await Self.run("touch wanted; ./amqp-bench \(arguments)")
        #expect(events.suffix(4) == ["build", "installing meanwhile", installed, "tool \(arguments)"], "\(events)")
        #expect(events.contains { $0.hasPrefix("Building amqp-bench") })
        #expect(events.contains("Waiting until RabbitMQ is installed …"))
    }

    @Test(
        "Nothing is installed for another broker, or where none is started",
        arguments: [
            "", "--broker embedded", "--broker rabbitmq --explain", "--uri amqp://localhost", "--help", "doctor",
        ]
    )
    func nothing(_ arguments: String) async throws {
        let events = try await Self.run("./amqp-bench \(arguments)")
        #expect(events.suffix(2) == ["build", "tool \(arguments)"], "\(events)")
    }

    @Test("The environment names the broker too")
    func environment() async throws {
        let events = try await Self.run("touch wanted; ./amqp-bench", environment: ["AMQP_BENCH_BROKER": "rabbitmq"])
        #expect(events.contains("installed broker install"), "\(events)")
    }

    @Test("A build that fails ends the launcher with 2, and the tool does not run")
    func broken() async throws {
        let events = try await Self.run("touch broken; ./amqp-bench --broker rabbitmq; echo status $?")
        #expect(events.contains("amqp-bench: the build failed") && events.contains("status 2"), "\(events)")
        #expect(!events.contains { $0.hasPrefix("tool") })
    }
}
