// SPDX-License-Identifier: Apache-2.0
import CEcho
import EpollNetworking
import Glibc
import NIOCore
import NIOPosix

// net-bench: echo servers beside each other, driven by one client in C. What counts is CPU time per round trip of the
// server's process; on a machine with few cores the wall clock says more about the client.
//
//   swift run -c release net-bench [--seconds S] [--runs N] [echo] [connects] [idle] [timers] [tls]

@main
struct NetBench {
    static func main() async throws {
        var arguments = Array(CommandLine.arguments.dropFirst())
        if arguments.first == "serve", let server = SecureServer(rawValue: arguments.last ?? "") {
            return try await server.run()
        }
        if arguments.first == "serve", let server = Server(rawValue: arguments.last ?? "") {
            return try await server.run()
        }
        var milliseconds: UInt64 = 1000
        var runs = 3
        var parts: [String] = []
        while !arguments.isEmpty {
            let argument = arguments.removeFirst()
            switch argument {
            case "--seconds":
                milliseconds = UInt64((Double(arguments.isEmpty ? "" : arguments.removeFirst()) ?? 1) * 1000)
            case "--runs": runs = max(1, Int(arguments.isEmpty ? "" : arguments.removeFirst()) ?? 3)
            case "echo", "connects", "idle", "timers", "tls": parts.append(argument)
            default:
                say("usage: net-bench [--seconds S] [--runs N] [echo] [connects] [idle] [timers] [tls]")
                exit(64)
            }
        }
        if parts.isEmpty { parts = ["echo", "connects", "idle", "timers", "tls"] }
        if parts.contains("echo") { Self.echo(milliseconds, runs) }
        if parts.contains("connects") { Self.connects(milliseconds, runs) }
        if parts.contains("idle") { Self.idle() }
        if parts.contains("timers") { try await Self.timers() }
        if parts.contains("tls") { SecureServer.compare(milliseconds, runs) }
    }

    /// Runs of all servers alternate, so that what else the machine does meets them alike; the best of each counts.
    private static func echo(_ milliseconds: UInt64, _ runs: Int) {
        say(
            "Echo: server CPU per round trip, best of \(runs) runs of \(milliseconds) ms, and round trips per second then"
        )
        for connections in [1, 64, 1000] {
            for size in [64, 1024, 65536] {
                say("\(connections) connections, \(size) octets")
                var best: [Server: (cpu: Double, rate: Double)] = [:]
                for _ in 0..<runs {
                    for server in Server.allCases {
                        let child = Child(server)
                        _ = cecho_load(child.port, CInt(connections), size, 100)
                        let before = child.cpu
                        let result = cecho_load(child.port, CInt(connections), size, milliseconds)
                        if result.errors > 0 { say("  \(server.title): \(result.errors) errors") }
                        guard result.round_trips > 0 else { continue }
                        let cpu = Double(child.cpu - before) / Double(result.round_trips)
                        let rate = Double(result.round_trips) * 1e9 / Double(result.nanoseconds)
                        if cpu < best[server]?.cpu ?? .infinity { best[server] = (cpu, rate) }
                    }
                }
                Self.table(best)
            }
        }
    }

    private static func connects(_ milliseconds: UInt64, _ runs: Int) {
        say(
            "Connect, one octet there and back, reset: server CPU each, best of \(runs) runs, and how many per second then"
        )
        var best: [Server: (cpu: Double, rate: Double)] = [:]
        for _ in 0..<runs {
            for server in Server.allCases {
                let child = Child(server)
                _ = cecho_connects(child.port, 100)
                let before = child.cpu
                let result = cecho_connects(child.port, milliseconds)
                if result.errors > 0 { say("  \(server.title): \(result.errors) errors") }
                guard result.round_trips > 0 else { continue }
                let cpu = Double(child.cpu - before) / Double(result.round_trips)
                let rate = Double(result.round_trips) * 1e9 / Double(result.nanoseconds)
                if cpu < best[server]?.cpu ?? .infinity { best[server] = (cpu, rate) }
            }
        }
        Self.table(best)
    }

    private static func table(_ best: [Server: (cpu: Double, rate: Double)]) {
        let raw = best[.raw]?.cpu ?? .nan
        let nio = best[.nio]?.cpu ?? .nan
        for server in Server.allCases {
            guard let (cpu, rate) = best[server] else { continue }
            say(
                "  \(pad(server.title, 30))\(pad(fixed(cpu / 1000), 10)) us  \(pad("\(Int(rate))", 9))/s"
                    + "   \(fixed(cpu / raw)) x C, \(fixed(cpu / nio)) x NIO"
            )
        }
    }

    private static func idle() {
        let count = 10_000
        say("Idle connections, \(count), each after one octet there and back: heap of the server each")
        for server in Server.allCases {
            let child = Child(server)
            _ = cecho_load(child.port, 10, 64, 50)
            let before = child.heap
            var descriptors = [CInt](repeating: -1, count: count)
            let stand = cecho_hold(child.port, CInt(count), &descriptors)
            let heap = child.heap
            cecho_release(descriptors, CInt(count))
            say(
                "  \(pad(server.title, 30))\(pad("\((heap - before) / max(1, Int(stand)))", 8)) octets (\(stand) stand)"
            )
        }
    }

    /// How late timers are, and what one costs: a task that sleeps again and again.
    private static func timers() async throws {
        let count = 500
        say("Timers of 500 us, \(count) in a row: median lateness, process CPU each")
        let loop = try EpollNetworking.EventLoop()
        try await Self.measure("EpollNetworking, on the loop", count, loop) {
            try await loop.sleep(for: .microseconds(500))
        }
        try await Self.measure("EpollNetworking, global pool", count, nil) {
            try await loop.sleep(for: .microseconds(500))
        }
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let nioLoop = group.next()
        try await Self.measure("SwiftNIO, scheduleTask", count, nil) {
            try await nioLoop.scheduleTask(in: .microseconds(500)) {}.futureResult.get()
        }
        try await Self.measure("Task.sleep", count, nil) { try await Task.sleep(for: .microseconds(500)) }
        try await group.shutdownGracefully()
    }

    private static func measure(
        _ name: String,
        _ count: Int,
        _ executor: EpollNetworking.EventLoop?,
        _ sleep: @escaping @Sendable () async throws -> Void
    ) async throws {
        let task = Task(executorPreference: executor) {
            var late: [Double] = []
            let cpu = cecho_cpu(getpid())
            for _ in 0..<count {
                let start = ContinuousClock.now
                try await sleep()
                late.append((ContinuousClock.now - start) / .microseconds(1) - 500)
            }
            return (late.sorted()[count / 2], Double(cecho_cpu(getpid()) - cpu) / Double(count) / 1000)
        }
        let (median, cpu) = try await task.value
        say("  \(pad(name, 30))\(pad(fixed(median), 8)) us late, \(fixed(cpu)) us CPU")
    }
}

func fixed(_ value: Double) -> String {
    guard value.isFinite else { return "-" }
    let hundredths = Int((value * 100).rounded())
    let fraction = hundredths.magnitude % 100
    return "\(hundredths < 0 ? "-" : "")\(hundredths.magnitude / 100).\(fraction < 10 ? "0" : "")\(fraction)"
}

func pad(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(0, width - text.count))
}
