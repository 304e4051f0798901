// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Testing

@Suite("State of a connection", .enabled(if: TestBroker.uri != nil, TestBroker.isMissing), .timeLimit(.minutes(2)))
struct ConnectionStateTests {
    @Test("A broker without an alarm blocks nobody, and says so at once")
    func unblocked() async throws {
        try await TestBroker.withConnection { connection in
            try await connection.waitUntilUnblocked()
            var states = connection.blockedStates.makeAsyncIterator()
            let first = await states.next(isolation: nil)
            #expect(first == .some(nil))
        }
    }

    @Test("The sequence of blocked states ends with the connection, also for one who asks later")
    func ends() async throws {
        let connection = try await AMQPConnection.connect(AMQPClientConfiguration(uri: #require(TestBroker.uri)))
        var states = connection.blockedStates.makeAsyncIterator()
        _ = await states.next(isolation: nil)
        try await connection.close()
        let last = await states.next(isolation: nil)
        #expect(last == nil)
        var late = connection.blockedStates.makeAsyncIterator()
        let none = await late.next(isolation: nil)
        #expect(none == nil)
    }

    @Test("The broker takes a new secret, and several at once")
    func secrets() async throws {
        try await TestBroker.withConnection { connection in
            try await connection.updateSecret("guest")
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<5 { group.addTask { try await connection.updateSecret("token \(number)") } }
                try await group.waitForAll()
            }
            let error = await #expect(throws: AMQPError.self) {
                try await connection.updateSecret("s3cr3t", reason: String(repeating: "x", count: 256))
            }
            #expect(error?.code == .invalidArgument)
            #expect(error?.description.contains("s3cr3t") == false)
            #expect(connection.isOpen)
            try await connection.withChannel { _ = try await $0.declareQueue(exclusive: true) }
        }
    }
}
