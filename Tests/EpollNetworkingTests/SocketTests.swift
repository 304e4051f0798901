// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import EpollNetworking
import Glibc
import SystemPackage
import Testing

// SocketTests: one owned descriptor, and addresses as values.

@Suite("Socket address")
struct SocketAddressTests {
    static let rows: [(SocketAddress, String)] = [
        (.ipv4(address: [127, 0, 0, 1], port: 5672), "127.0.0.1:5672"),
        (.ipv4(address: [255, 255, 255, 255], port: 65535), "255.255.255.255:65535"),
        (.loopbackV6(port: 1), "[::1]:1"),
        (.ipv6(address: [0xFE, 0x80] + [UInt8](repeating: 0, count: 13) + [1], port: 80, scope: 2), "[fe80::1%2]:80"),
        (.unix(path: "/run/broker.sock"), "unix:/run/broker.sock"),
        (.abstract(name: Array("broker".utf8)), "unix:@broker"),
    ]

    @Test("An address survives the kernel's form and describes itself", arguments: rows)
    func roundTrip(address: SocketAddress, text: String) throws {
        let copy = try address.withSockaddr { (base, length) throws(SystemError) in
            SocketAddress(sockaddr: UnsafeRawBufferPointer(start: base, count: Int(length)))
        }
        #expect(copy == address)
        #expect(address.description == text)
    }

    @Test("The longest path fits, one more octet does not")
    func pathLimit() throws {
        let fits = SocketAddress.unix(path: String(repeating: "p", count: 107))
        let length = try fits.withSockaddr { (_, length) throws(SystemError) in length }
        #expect(length == 110)
        let tooLong = SocketAddress.unix(path: String(repeating: "p", count: 108))
        #expect(throws: SystemError.self) { try tooLong.withSockaddr { (_, _) throws(SystemError) in () } }
    }

    @Test(
        "What is no address is refused",
        arguments: [
            SocketAddress.ipv4(address: [1, 2, 3], port: 1), .ipv6(address: [], port: 1, scope: 0), .unix(path: "a\0b"),
        ]
    )
    func malformed(address: SocketAddress) {
        #expect(throws: SystemError.self) { try address.withSockaddr { (_, _) throws(SystemError) in () } }
        #expect(!address.description.isEmpty)
    }

    @Test("Too few octets from the kernel are nil", arguments: 0...15)
    func short(count: Int) {
        var octets = [UInt8](repeating: 0, count: 28)
        octets[0] = UInt8(AF_INET)
        #expect(octets.withUnsafeBytes { SocketAddress(sockaddr: .init(rebasing: $0[0..<count])) } == nil)
    }
}

@Suite("Locked")
struct LockedTests {
    @Test("Increments from many tasks are all counted")
    func counts() async {
        let counter = Counter()
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<8 { group.addTask { for _ in 0..<10_000 { counter.value.withLock { $0 += 1 } } } }
        }
        #expect(counter.value.withLock { $0 } == 80_000)
    }

    @Test("A typed error leaves with its type, and the lock is free again")
    func throwsTyped() {
        struct Odd: Error {}
        let locked = Locked(1)
        do throws(Odd) {
            try locked.withLock { (_) throws(Odd) in throw Odd() }
        } catch {
            locked.withLock { $0 = 2 }
        }
        #expect(locked.withLock { $0 } == 2)
    }

    private final class Counter: Sendable {
        let value = Locked(0)
    }
}

extension NetworkTests {
    @Suite("Stream socket", .timeLimit(.minutes(1)))
    struct StreamSocketTests {
        @Test("Octets arrive, then would-block, then the end of the stream")
        func reads() async throws {
            let loop = try EventLoop()
            let (client, server) = try await connectedPair(loop)
            #expect(server.receive().0 == .wouldBlock)
            #expect(client.send([]) == .count(0))
            #expect(client.send([1, 2, 3, 4, 5]) == .count(5))
            #expect(await server.arrived(3).1 == [1, 2, 3])
            #expect(server.receive(0).0 == .count(0))
            #expect(server.receive().1 == [4, 5])
            client.finishWriting()
            #expect(await server.arrived().0 == .endOfStream)
            // The other direction is still open.
            #expect(server.send([9]) == .count(1))
            #expect(await client.arrived().1 == [9])
        }

        @Test("A vector of buffers leaves in one call, in order")
        func vectors() async throws {
            let loop = try EventLoop()
            let (client, server) = try await connectedPair(loop)
            var first: [UInt8] = [1, 2]
            var second: [UInt8] = [3, 4, 5]
            let result = first.withUnsafeMutableBytes { first in
                second.withUnsafeMutableBytes { second in
                    let vectors = [
                        iovec(iov_base: first.baseAddress, iov_len: first.count),
                        iovec(iov_base: second.baseAddress, iov_len: second.count),
                    ]
                    return vectors.withUnsafeBufferPointer { client.write(vectors: $0) }
                }
            }
            #expect(result == .count(5))
            #expect(await server.arrived().1 == [1, 2, 3, 4, 5])
        }

        @Test("F25: a full send buffer is would-block, and a closed peer an error without a signal")
        func fullAndBroken() async throws {
            let loop = try EventLoop()
            let (client, server) = try await connectedPair(loop)
            try client.setSendBuffer(octets: 16 * 1024)
            let block = [UInt8](repeating: 7, count: 64 * 1024)
            var result = client.send(block)
            while case .count = result { result = client.send(block) }
            #expect(result == .wouldBlock)
            server.reset()
            let failed = Promise<Void>()
            let id = try await onLoop(loop) {
                try loop.register(client.descriptor, handler: Handler { if $0.contains(.error) { failed.fulfil(()) } })
            }
            await failed.value
            _ = try await onLoop(loop) { loop.deregister(id) }
            #expect(client.receive().0 == .failed(SystemError(errno: .connectionReset, call: "recv")))
            #expect(client.send([1]) == .failed(SystemError(errno: .brokenPipe, call: "send")))
        }

        @Test("Addresses and options of a connected socket")
        func options() async throws {
            let loop = try EventLoop()
            let (client, server) = try await connectedPair(loop)
            #expect(client.peerAddress == server.localAddress)
            #expect(client.localAddress == server.peerAddress)
            try client.setNoDelay(true)
            try client.setKeepAlive(true)
            try client.setUserTimeout(milliseconds: 30_000)
            try client.setSendBuffer(octets: 256 * 1024)
        }

        @Test("A socket closes its descriptor once, at the latest with its last reference")
        func closes() async throws {
            let loop = try EventLoop()
            let before = openSockets()
            do {
                let (client, server) = try await connectedPair(loop)
                client.close()
                client.close()
                client.reset()
                #expect(await server.arrived().0 == .endOfStream)
            }
            await eventually { openSockets().subtracting(before).isEmpty }
        }
    }
}
