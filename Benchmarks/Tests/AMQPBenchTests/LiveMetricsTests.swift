// SPDX-License-Identifier: Apache-2.0
import Foundation
import Glibc
import Synchronization
import Testing

@testable import AMQPBench

@Suite("Live metrics", .serialized, .timeLimit(.minutes(3)))
struct LiveMetricsTests {
    /// The answer of a server on loopback.
    static func get(_ request: String, port: UInt16) -> String {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let isConnected = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
            }
        }
        guard isConnected else { return "" }
        _ = request.withCString { send(descriptor, $0, strlen($0), 0) }
        var answer: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while case let count = recv(descriptor, &buffer, buffer.count, 0), count > 0 { answer += buffer[0..<count] }
        return String(decoding: answer, as: UTF8.self)
    }

    @Test("The text is what Prometheus reads: a help and a type for each name, labels, seconds")
    func text() {
        var snapshot = Snapshot(meters: RunMeters(), publishing: [], broker: nil)
        snapshot.counts.published = 4711
        snapshot.inFlight = 12
        let interval = Report.example().intervals[0]
        let text = LiveMetrics.text(snapshot, interval, id: "k7f2", command: "both")
        let lines = text.split(separator: "\n").map(String.init)
        #expect(lines.contains("amqp_bench_published_total{run=\"k7f2\",command=\"both\"} 4711"))
        #expect(lines.contains("amqp_bench_in_flight{run=\"k7f2\",command=\"both\"} 12"))
        #expect(
            lines.contains("amqp_bench_confirm_seconds{run=\"k7f2\",command=\"both\",quantile=\"0.99\"} 0.022400000")
        )
        for line in lines where !line.hasPrefix("#") {
            let name = String(line.prefix { $0 != "{" })
            #expect(lines.contains { $0.hasPrefix("# HELP \(name) ") }, "\(name)")
            #expect(lines.contains { $0.hasPrefix("# TYPE \(name) ") }, "\(name)")
        }
        #expect(text.hasSuffix("\n"))
    }

    @Test(
        "Only GET /metrics is answered with them",
        arguments: [
            ("GET /metrics HTTP/1.1\r\n\r\n", "200 OK"), ("GET /metrics?x=1 HTTP/1.0\r\n\r\n", "200 OK"),
            ("GET / HTTP/1.1\r\n\r\n", "404 Not Found"), ("POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
            ("", "400 Bad Request"), ("\r\n", "400 Bad Request"),
        ]
    )
    func answers(_ request: String, _ status: String) {
        let answer = MetricsServer.answer(to: request) { "body\n" }
        #expect(answer.hasPrefix("HTTP/1.1 \(status)\r\n"))
        #expect(answer.contains("body\n") == (status == "200 OK"))
    }

    @Test("A client that sends nothing does not keep the others waiting for ever")
    func silentClient() throws {
        let address = try #require(ListenAddress(argument: "0"))
        let server = try MetricsServer(on: address) { "x 1\n" }
        let silent = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(silent) }
        var place = sockaddr_in()
        place.sin_family = sa_family_t(AF_INET)
        place.sin_port = server.port.bigEndian
        place.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        _ = withUnsafePointer(to: &place) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(silent, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        #expect(Self.get("GET /metrics HTTP/1.1\r\n\r\n", port: server.port).hasSuffix("\r\n\r\nx 1\n"))
    }

    @Test(
        "An address is a port, or an IPv4 address and a port",
        arguments: [
            ("9100", "127.0.0.1", 9100), ("0.0.0.0:1", "0.0.0.0", 1), ("localhost:2", "127.0.0.1", 2),
        ]
    )
    func reads(_ text: String, _ host: String, _ port: UInt16) {
        let address = ListenAddress(argument: text)
        #expect(address?.host == host && address?.port == port)
        for wrong in ["", "x", "65536", "host:1", ":1", "1:2:3"] { #expect(ListenAddress(argument: wrong) == nil) }
    }

    @Test(
        "A run answers while it runs, and writes a line of JSON for each interval",
        arguments: ["both -r 500", "rpc -r 100"]
    )
    func run(_ command: String) async throws {
        try await Tool.withDirectory { directory in
            let seen = Mutex("")
            let options = "--time 2s --warmup 500ms --interval 500ms --ndjson --prometheus 0 2>text"
            let result = try await Tool.bash("$TOOL \(command) \(options)", in: directory) { _, output in
                let deadline = ContinuousClock.now + .seconds(60)
                while output().isEmpty, ContinuousClock.now < deadline { try await Task.sleep(for: .milliseconds(10)) }
                let text = try String(contentsOfFile: directory + "/text", encoding: .utf8)
                let digits = text.components(separatedBy: "http://127.0.0.1:").last?.prefix { $0.isNumber }
                guard let port = digits.flatMap({ UInt16($0) }) else { return }
                seen.withLock { $0 = Self.get("GET /metrics HTTP/1.1\r\n\r\n", port: port) }
            }
            #expect(result.status == 0)
            let lines = result.output.split(separator: "\n")
            #expect(lines.count >= 4)
            for line in lines {
                let object = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
                let interval = object?["interval"] as? [String: Any]
                #expect(object?["kind"] as? String == "interval" && interval?["published"] is Double)
            }
            let published = seen.withLock { $0 }.split(separator: "\n").first {
                $0.hasPrefix("amqp_bench_published_total{")
            }
            let count = published?.split(separator: " ").last.flatMap { Int($0.trimmingCharacters(in: .whitespaces)) }
            #expect(try #require(count) > 10, "\(seen.withLock { $0 })")
        }
    }

    @Test("A port that is taken is said")
    func taken() throws {
        let server = try MetricsServer(on: #require(ListenAddress(argument: "0"))) { "" }
        let address = try #require(ListenAddress(argument: "\(server.port)"))
        let error = #expect(throws: BenchFailure.self) { _ = try MetricsServer(on: address) { "" } }
        #expect(error?.description.contains("cannot listen on 127.0.0.1:\(server.port)") == true)
    }
}
