// SPDX-License-Identifier: Apache-2.0
import CEcho
import EpollNetworking
import Glibc
import NIOCore
import NIOPosix

// net-bench: echo servers beside each other, driven by one client in C. What counts is CPU time per round trip of the
// server's process; on a machine with few cores the wall clock says more about the client.
//
//   swift run -c release net-bench [--seconds S] [--runs N] [--connections N] [--octets N] [echo] [connects] [idle] [timers] [tls]

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
        var connections = [1, 64, 1000]
        var sizes = [64, 1024, 65536]
        var parts: [String] = []
        while !arguments.isEmpty {
            let argument = arguments.removeFirst()
            switch argument {
            case "--seconds":
                milliseconds = UInt64((Double(arguments.isEmpty ? "" : arguments.removeFirst()) ?? 1) * 1000)
            case "--runs": runs = max(1, Int(arguments.isEmpty ? "" : arguments.removeFirst()) ?? 3)
            case "--connections": connections = [max(1, Int(arguments.isEmpty ? "" : arguments.removeFirst()) ?? 64)]
            case "--octets": sizes = [max(1, Int(arguments.isEmpty ? "" : arguments.removeFirst()) ?? 1024)]
            case "echo", "connects", "idle", "timers", "tls": parts.append(argument)
            default:
                say(
                    "usage: net-bench [--seconds S] [--runs N] [--connections N] [--octets N] "
                        + "[echo] [connects] [idle] [timers] [tls]"
                )
                exit(64)
            }
        }
        if parts.isEmpty { parts = ["echo", "connects", "idle", "timers", "tls"] }
        if parts.contains("echo") { Self.echo(milliseconds, runs, connections, sizes) }
        if parts.contains("connects") { Self.connects(milliseconds, runs) }
        if parts.contains("idle") { Self.idle() }
        if parts.contains("timers") { try await Self.timers() }
        if parts.contains("tls") { SecureServer.compare(milliseconds, runs) }
    }

    /// What one server did in one run: processor time of each round trip, and how many there were a second.
    private struct Sample {
        var cpu: Double
        var rate: Double

        init?(_ result: cecho_result, cpu: UInt64, of server: Server) {
            if result.errors > 0 { say("  \(server.title): \(result.errors) errors") }
            guard result.round_trips > 0 else { return nil }
            self.cpu = Double(cpu) / Double(result.round_trips)
            self.rate = Double(result.round_trips) * 1e9 / Double(result.nanoseconds)
        }
    }

    /// Runs of all servers alternate, so that what else the machine does meets them alike.
    private static func echo(_ milliseconds: UInt64, _ runs: Int, _ connections: [Int], _ sizes: [Int]) {
        say("Echo: server CPU per round trip, and round trips per second; medians of \(runs) x \(milliseconds) ms")
        for connections in connections {
            for size in sizes {
                say("\(connections) connections, \(size) octets")
                Self.compare(runs) { server in
                    let child = Child(server)
                    _ = cecho_load(child.port, CInt(connections), size, 100)
                    let before = child.cpu
                    let result = cecho_load(child.port, CInt(connections), size, milliseconds)
                    return Sample(result, cpu: child.cpu - before, of: server)
                }
            }
        }
    }

    private static func connects(_ milliseconds: UInt64, _ runs: Int) {
        say("Connect, one octet there and back, reset: server CPU each, and how many per second; medians of \(runs)")
        Self.compare(runs) { server in
            let child = Child(server)
            _ = cecho_connects(child.port, 100)
            let before = child.cpu
            let result = cecho_connects(child.port, milliseconds)
            return Sample(result, cpu: child.cpu - before, of: server)
        }
    }

    /// Measures every server in each run, and compares those of one run.
    private static func compare(_ runs: Int, _ measure: (Server) -> Sample?) {
        var samples: [[Server: Sample]] = []
        for _ in 0..<runs {
            var run: [Server: Sample] = [:]
            for server in Server.allCases { run[server] = measure(server) }
            samples.append(run)
        }
        func ratio(_ server: Server, to other: Server) -> String {
            let ratios = samples.compactMap { run in
                run[other].flatMap { base in run[server].map { $0.cpu / base.cpu } }
            }
            return fixed(median(ratios))
        }
        for server in Server.allCases {
            let own = samples.compactMap { $0[server] }
            guard !own.isEmpty else { continue }
            say(
                "  \(pad(server.title, 30))\(pad(fixed(median(own.map(\.cpu)) / 1000), 10)) us  "
                    + "\(pad("\(Int(median(own.map(\.rate))))", 9))/s"
                    + "   \(ratio(server, to: .raw)) x C, \(ratio(server, to: .nio)) x NIO"
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

func median(_ values: [Double]) -> Double { values.isEmpty ? .nan : values.sorted()[values.count / 2] }

func fixed(_ value: Double) -> String {
    guard value.isFinite else { return "-" }
    let hundredths = Int((value * 100).rounded())
    let fraction = hundredths.magnitude % 100
    return "\(hundredths < 0 ? "-" : "")\(hundredths.magnitude / 100).\(fraction < 10 ? "0" : "")\(fraction)"
}

func pad(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(0, width - text.count))
}
