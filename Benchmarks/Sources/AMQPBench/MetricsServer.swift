// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import Glibc

// MetricsServer: the smallest server that a Prometheus can scrape: one thread, one request after the other, GET /metrics and
// nothing else. It listens on loopback unless another address is given.

/// Where `--prometheus` listens: `9100`, `0.0.0.0:9100`.
struct ListenAddress: ExpressibleByArgument, Hashable, Sendable {
    /// An IPv4 address.
    var host: String
    /// 0 for a free port.
    var port: UInt16

    init?(argument: String) {
        let parts = argument.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        guard 1...2 ~= parts.count, let port = UInt16(parts[parts.count - 1]) else { return nil }
        self.port = port
        self.host = parts.count == 2 ? (parts[0] == "localhost" ? "127.0.0.1" : parts[0]) : "127.0.0.1"
        var address = in_addr()
        guard inet_pton(AF_INET, self.host, &address) == 1 else { return nil }
    }
}

/// A server of metrics, for the life of the process.
struct MetricsServer: Sendable {
    /// Where it listens.
    let port: UInt16

    /// Listens, and answers on a new thread.
    ///
    /// - Parameters:
    ///   - address: Where to listen.
    ///   - text: The answer to `GET /metrics`.
    /// - Throws: ``BenchFailure`` when the port is taken.
    init(on address: ListenAddress, _ text: @escaping @Sendable () -> String) throws(BenchFailure) {
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var one: Int32 = 1
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<Int32>.size))
        var place = sockaddr_in()
        place.sin_family = sa_family_t(AF_INET)
        place.sin_port = address.port.bigEndian
        _ = inet_pton(AF_INET, address.host, &place.sin_addr)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isListening = withUnsafeMutablePointer(to: &place) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, length) == 0 && listen(listener, 16) == 0 && getsockname(listener, $0, &length) == 0
            }
        }
        guard listener >= 0, isListening else {
            let reason = String(cString: strerror(errno))
            if listener >= 0 { close(listener) }
            throw BenchFailure(
                description: "--prometheus cannot listen on \(address.host):\(address.port): \(reason)",
                status: ExitStatus.failed
            )
        }
        self.port = UInt16(bigEndian: place.sin_port)
        Thread.detachNewThread { Self.serve(listener, text) }
    }

    /// Seconds a client may take to send its request, and to take the answer.
    private static let patience = 2
    /// MSG_NOSIGNAL.
    private static let noSignal: Int32 = 0x4000
    /// Octets of a request that are read.
    private static let longest = 8192

    private static func serve(_ listener: Int32, _ text: @Sendable () -> String) {
        while true {
            let client = accept(listener, nil, nil)
            guard client >= 0 else {
                if errno == EINTR || errno == ECONNABORTED { continue }
                // Out of files, perhaps: others may be closed meanwhile.
                sleep(1)
                continue
            }
            _ = fcntl(client, F_SETFD, FD_CLOEXEC)
            var limit = timeval(tv_sec: Self.patience, tv_usec: 0)
            for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
                setsockopt(client, SOL_SOCKET, option, &limit, socklen_t(MemoryLayout<timeval>.size))
            }
            let answer = Data(Self.answer(to: Self.request(client), text).utf8)
            answer.withUnsafeBytes { octets in
                var done = 0
                while done < octets.count {
                    let count = send(
                        client,
                        octets.baseAddress! + done,
                        octets.count - done,
                        Self.noSignal
                    )
                    guard count > 0 else { return }
                    done += count
                }
            }
            close(client)
        }
    }

    /// The request up to its empty line, or as much as came in time.
    private static func request(_ client: Int32) -> String {
        var request: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1024)
        let deadline = ContinuousClock.now + .seconds(Self.patience)
        while request.count < Self.longest, ContinuousClock.now < deadline {
            let count = recv(client, &buffer, buffer.count, 0)
            guard count > 0 else { break }
            request += buffer[0..<count]
            if request.suffix(4) == [13, 10, 13, 10] { break }
        }
        return String(decoding: request, as: UTF8.self)
    }

    /// The answer to a request; pure.
    static func answer(to request: String, _ text: () -> String) -> String {
        let words = request.prefix { $0 != "\r\n" && $0 != "\n" }.split(separator: " ")
        func answer(_ status: String, _ body: String) -> String {
            "HTTP/1.1 \(status)\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
                + "Content-Length: \(body.utf8.count)\r\nConnection: close\r\n\r\n\(body)"
        }
        guard words.count >= 2 else { return answer("400 Bad Request", "") }
        guard words[0] == "GET" else { return answer("405 Method Not Allowed", "") }
        guard words[1].prefix(while: { $0 != "?" }) == "/metrics" else {
            return answer("404 Not Found", "the metrics are at /metrics\n")
        }
        return answer("200 OK", text())
    }
}
