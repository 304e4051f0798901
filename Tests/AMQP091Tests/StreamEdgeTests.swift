// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import EpollConcurrency
import EpollNetworking
import Glibc
import Logging
import Testing

@testable import AMQP091
@testable import AMQP091Testing

// StreamEdgeTests: what a connection makes of the edges of its stream: reads that stop early, and the end of its loop.

@Suite("Stream edges", .timeLimit(.minutes(1)))
struct StreamEdgeTests {
    @Test("A frame whose first half came with a descriptor is read to its end without a further event")
    func passedDescriptors() async throws {
        try await ScriptedBroker.withChannel { broker, connection, channel in
            let socket = try #require(broker.link.stream.socket)
            let reply = try ScriptedBroker.octets(of: ChannelDialogueTests.declareOk, on: 1)
            for _ in 0..<20 {
                async let queue = channel.declareQueue("orders")
                try await broker.expect(Queue.Declare.self)
                // Together, so that one event reports all of it.
                let loop = connection.driver.loop
                let isHeld = Locked(true)
                loop.execute { while isHeld.withLock({ $0 }) { sched_yield() } }
                sendWithDescriptor(socket.descriptor, reply[..<5])
                #expect(reply[5...].withUnsafeBytes { socket.write($0) } == .count(reply.count - 5))
                isHeld.withLock { $0 = false }
                #expect(try await queue.messageCount == 3)
            }
        }
    }

    @Test("Callers of a connection whose loop is shut down are told so")
    func loopStopped() async throws {
        let loop = try EventLoop(name: "short")
        try await InProcessBroker.withBroker { broker in
            let (near, far) = try StreamSocket.pair()
            await broker.serve(far)
            let driver = try await ConnectionSession.login(
                over: near,
                named: "test",
                AMQPClientConfiguration(),
                loop: loop,
                deadline: .now + .seconds(10),
                logger: Logger(label: "test")
            )
            let connection = AMQPConnection(driver: driver)
            let channel = try await connection.openChannel()
            let queue = try await channel.declareQueue(exclusive: true)
            let deliveries = try await channel.deliveries(from: queue.name)
            let consuming = Task { for try await _ in deliveries {} }
            loop.shutdown()
            let error = await #expect(throws: AMQPError.self) { try await consuming.value }
            #expect(error?.code == .connectionClosed)
            #expect(error?.replyText.contains("event loop") == true)
            #expect(!connection.isOpen)
        }
    }

    private func sendWithDescriptor(_ socket: CInt, _ octets: ArraySlice<UInt8>) {
        var octets = Array(octets)
        // cmsghdr with one descriptor: length, level, type, number (cmsg(3)); 64-bit layout.
        var control = [UInt8](repeating: 0, count: 24)
        control.withUnsafeMutableBytes { bytes in
            bytes.storeBytes(of: 20, toByteOffset: 0, as: Int.self)
            bytes.storeBytes(of: SOL_SOCKET, toByteOffset: 8, as: CInt.self)
            bytes.storeBytes(of: CInt(SCM_RIGHTS), toByteOffset: 12, as: CInt.self)
            bytes.storeBytes(of: 0, toByteOffset: 16, as: CInt.self)
        }
        octets.withUnsafeMutableBytes { octets in
            control.withUnsafeMutableBytes { control in
                var vector = iovec(iov_base: octets.baseAddress, iov_len: octets.count)
                withUnsafeMutablePointer(to: &vector) { vector in
                    var message = msghdr()
                    message.msg_iov = vector
                    message.msg_iovlen = 1
                    message.msg_control = control.baseAddress
                    message.msg_controllen = control.count
                    #expect(sendmsg(socket, &message, 0) == octets.count)
                }
            }
        }
    }
}
