// SPDX-License-Identifier: Apache-2.0
import CEcho
import EpollNetworking
import Glibc
import NIOCore
import NIOPosix

// The echo servers that are compared, all with one event loop. The two in Swift have the same shape: a child task per
// connection in a discarding task group, an async sequence to read from, an async call to write.

enum Server: String, CaseIterable {
    /// C on epoll, one thread, no tasks: what the machine can do.
    case raw
    /// EpollNetworking, handlers on the loop's thread.
    case loop
    /// EpollNetworking, handlers in the global pool.
    case pool
    /// SwiftNIO's async channel, handlers in the global pool.
    case nio

    var title: String {
        switch self {
        case .raw: "C, epoll"
        case .loop: "EpollNetworking, on the loop"
        case .pool: "EpollNetworking, global pool"
        case .nio: "SwiftNIO, NIOAsyncChannel"
        }
    }

    /// Serves until the process is ended; tells its port, and its heap whenever it is asked by a line.
    func run() async throws {
        switch self {
        case .raw:
            var port: UInt16 = 0
            let listener = cecho_listen(&port)
            Self.announce(port)
            cecho_serve(listener)
        case .loop, .pool:
            var options = ListenerOptions()
            options.group = try EventLoopGroup(count: 1)
            options.backlog = 4096
            try await TCPListener.withListener(on: .host("127.0.0.1", port: 0), options: options) { listener in
                Self.announce(listener.localAddress.port ?? 0)
                try await listener.serve(on: self == .loop ? .eventLoop : .inherited) { connection in
                    for try await chunk in connection.inbound { try await connection.write(chunk) }
                }
            }
        case .nio: try await Self.runNIO()
        }
    }

    private static func runNIO() async throws {
        let server = try await ServerBootstrap(group: MultiThreadedEventLoopGroup(numberOfThreads: 1))
            .serverChannelOption(.backlog, value: 4096)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .bind(host: "127.0.0.1", port: 0) { channel in
                channel.eventLoop.makeCompletedFuture {
                    try NIOAsyncChannel<ByteBuffer, ByteBuffer>(wrappingChannelSynchronously: channel)
                }
            }
        Self.announce(UInt16(server.channel.localAddress?.port ?? 0))
        try await withThrowingDiscardingTaskGroup { group in
            try await server.executeThenClose { clients in
                for try await client in clients {
                    group.addTask {
                        do {
                            try await client.executeThenClose { inbound, outbound in
                                for try await buffer in inbound { try await outbound.write(buffer) }
                            }
                        } catch {
                            // The peer left.
                        }
                    }
                }
            }
        }
    }

    static func announce(_ port: UInt16) {
        say("\(port)")
        var thread = pthread_t()
        pthread_create(
            &thread,
            nil,
            { _ in
                var octet: UInt8 = 0
                while read(0, &octet, 1) == 1 { say("\(cecho_heap())") }
                return nil
            },
            nil
        )
    }
}

/// Writes a line without any buffer.
func say(_ line: String) {
    let octets = Array((line + "\n").utf8)
    _ = write(1, octets, octets.count)
}
