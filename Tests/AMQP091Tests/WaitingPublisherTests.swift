// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// WaitingPublisherTests: publishers that wait for room, when their channel ends and when many of them give up.

@Suite("Waiting publishers", .timeLimit(.minutes(1)))
struct WaitingPublisherTests {
    enum Obstacle: CaseIterable, Sendable {
        case alarm, flow, window
    }

    /// Has publishers of channel 1 wait.
    private static func obstruct(
        _ obstacle: Obstacle,
        _ broker: ScriptedBroker,
        _ connection: AMQPConnection,
        _ channel: AMQPChannel
    ) async throws {
        switch obstacle {
        case .alarm:
            try broker.send(.connectionBlocked(.init(reason: "low on memory")))
            for await reason in connection.blockedStates where reason != nil { break }
        case .flow:
            try broker.send(.channelFlow(.init(active: false)), on: 1)
            try await broker.expect(Channel.FlowOk.self, on: 1)
        case .window:
            try await channel.publish("fills it", to: .queue("q"))
            _ = try await broker.expectPublish(on: 1)
        }
    }

    @Test("Publishers that wait are told at once that their channel ended", arguments: Obstacle.allCases)
    func channelEnds(obstacle: Obstacle) async throws {
        try await PublishDialogueTests.withConfirms(window: 1) { broker, connection, channel in
            async let opening = connection.openChannel()
            try await broker.openChannel(2)
            let other = try await opening
            try await Self.obstruct(obstacle, broker, connection, channel)
            let waiting = (0..<20).map { _ in
                Task { try await channel.publish("waits", to: .queue("q"), timeout: .seconds(40)) }
            }
            let bystander = Task { try await other.publish("other", to: .queue("q"), timeout: .seconds(40)) }
            // They wait, or will find the channel closed: both count.
            for _ in 0..<100 { await Task.yield() }
            try broker.closeChannel(.notFound, "no exchange", method: Basic.Publish.id)
            let start = ContinuousClock.now
            for task in waiting {
                let error = await #expect(throws: AMQPError.self) { try await task.value }
                #expect(error?.code == .channelClosed)
                #expect(error?.isSafeToRetry == true)
            }
            #expect(ContinuousClock.now - start < .seconds(20))
            if obstacle == .alarm { try broker.send(.connectionUnblocked(.init())) }
            try await bystander.value
        }
    }

    @Test("Two thousand publishers that wait and are cancelled leave nothing behind", arguments: Obstacle.allCases)
    func manyGiveUp(obstacle: Obstacle) async throws {
        try await PublishDialogueTests.withConfirms(window: 1) { broker, connection, channel in
            try await Self.obstruct(obstacle, broker, connection, channel)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<2000 {
                    group.addTask {
                        let error = await #expect(throws: AMQPError.self) {
                            try await channel.publish("waits", to: .queue("q"), timeout: .seconds(50))
                        }
                        #expect(error?.code == .cancelled)
                    }
                }
                for _ in 0..<100 { await Task.yield() }
                group.cancelAll()
                try await group.waitForAll()
            }
            #expect(channel.isOpen)
        }
    }
}
