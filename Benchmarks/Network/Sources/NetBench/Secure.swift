// SPDX-License-Identifier: Apache-2.0
import CEcho
import CSecure
import EpollNetworking
import Glibc

// Secure: TLS in blocks of 16 KiB, in both directions, beside OpenSSL on a blocking socket in C. One connection, because
// what is compared is the cost of an octet. The certificates come from scripts/certificates.

enum SecureServer: String, CaseIterable {
    case raw = "tls-raw"
    case loop = "tls-loop"
    case pool = "tls-pool"

    static let block = 16 << 10

    var title: String {
        switch self {
        case .raw: "C, OpenSSL"
        case .loop: "EpollNetworking, on the loop"
        case .pool: "EpollNetworking, global pool"
        }
    }

    private static let directory = "/tmp/net-bench-certificates-\(getuid())"

    static func makeCertificates() -> Bool {
        let root = #filePath.split(separator: "/").dropLast(5).joined(separator: "/")
        return system("/\(root)/scripts/certificates \(Self.directory)") == 0
    }

    /// Serves until the process is ended: the first octet of a connection says who sends.
    func run() async throws {
        let chain = "\(Self.directory)/good.pem"
        let key = "\(Self.directory)/good_key.pem"
        if self == .raw {
            var port: UInt16 = 0
            let listener = cecho_listen(&port)
            Server.announce(port)
            csecure_serve(listener, chain, key, Self.block)
        }
        let context = try TLSContext(.identity(certificateChain: chain, privateKey: key), role: .server)
        var options = ListenerOptions()
        options.group = try EventLoopGroup(count: 1)
        try await TCPListener.withListener(on: .host("127.0.0.1", port: 0), options: options) { listener in
            Server.announce(listener.localAddress.port ?? 0)
            try await listener.serve(tls: context, on: self == .loop ? .eventLoop : .inherited) { connection in
                if try await connection.read(exactly: 1) == [UInt8(ascii: "s")] {
                    let block = ByteChunk([UInt8](repeating: 0, count: Self.block))
                    while true { try await connection.write(block) }
                } else {
                    for try await _ in connection.inbound {}
                }
            }
        }
    }

    static func compare(_ milliseconds: UInt64, _ runs: Int) {
        guard Self.makeCertificates() else { return say("scripts/certificates failed") }
        for isSending in [true, false] {
            var best: [SecureServer: (perSecond: Double, rate: Double)] = [:]
            var cipher = ""
            for _ in 0..<runs {
                for server in Self.allCases {
                    let child = Child(server.rawValue)
                    _ = csecure_load(child.port, isSending ? 1 : 0, Self.block, 100)
                    let before = child.cpu
                    var result = csecure_load(child.port, isSending ? 1 : 0, Self.block, milliseconds)
                    let cpu = Double(child.cpu - before)
                    if result.error != 0 { say("  \(server.title): failed at step \(result.error)") }
                    guard result.octets > 0, cpu > 0 else { continue }
                    cipher = withUnsafeBytes(of: &result.cipher) {
                        String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
                    }
                    let perSecond = Double(result.octets) / cpu * 1e9
                    let rate = Double(result.octets) / Double(result.nanoseconds) * 1e9
                    if perSecond > best[server]?.perSecond ?? 0 { best[server] = (perSecond, rate) }
                }
            }
            let way = isSending ? "the server sends" : "the server reads"
            say("TLS, \(way) blocks of 16 KiB, \(cipher): MB per second of its CPU, best of \(runs), and MB/s then")
            let raw = best[.raw]?.perSecond ?? .nan
            for server in Self.allCases {
                guard let (perSecond, rate) = best[server] else { continue }
                say(
                    "  \(pad(server.title, 30))\(pad(fixed(perSecond / 1e6), 10)) MB/CPU s  \(pad(fixed(rate / 1e6), 9)) MB/s"
                        + "   \(fixed(perSecond / raw)) x C"
                )
            }
        }
    }
}
