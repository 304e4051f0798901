// SPDX-License-Identifier: Apache-2.0
import AMQP091

// PublishWorkload: tasks publish their shares, on as many channels of as many connections as asked for; over when all is
// confirmed, or, without confirms, when a request behind the last publish has been answered.

struct PublishWorkload: Sendable {
    let driver: AMQPDriver

    func run() async throws -> Measurement {
        var connections: [AMQPConnection] = []
        var lanes: [Lane] = []
        for _ in 0..<self.driver.connections {
            let connection = try await self.driver.connect()
            connections.append(connection)
            for _ in 0..<self.driver.channels {
                let lane = try await self.openLane(on: connection)
                // Tasks that share a channel.
                for _ in 0..<self.driver.tasks { lanes.append(lane) }
            }
        }
        try await self.publish(self.driver.warmup, over: lanes)
        let start = Reading.now
        try await self.publish(self.driver.count, over: lanes)
        let end = Reading.now
        for connection in connections { try await connection.close() }
        return Measurement(start: start, end: end)
    }

    private struct Lane: Sendable {
        let connection: AMQPConnection
        let channel: AMQPChannel
    }

    private func openLane(on connection: AMQPConnection) async throws -> Lane {
        let channel = try await connection.openChannel()
        if self.driver.confirmWindow > 0 { try await channel.enableConfirms(window: self.driver.confirmWindow) }
        return Lane(connection: connection, channel: channel)
    }

    private func publish(_ count: Int, over lanes: [Lane]) async throws {
        guard lanes.count > 1 else { return try await self.publish(count, on: lanes[0]) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (index, lane) in lanes.enumerated() {
                let share = count / lanes.count + (index < count % lanes.count ? 1 : 0)
                group.addTask { try await self.publish(share, on: lane) }
            }
            try await group.waitForAll()
        }
    }

    private func publish(_ count: Int, on lane: Lane) async throws {
        try await self.driver.run(beside: lane.connection) {
            let message = AMQPMessage(AMQPBody([UInt8](repeating: 0x61, count: self.driver.size)))
            let destination = AMQPDestination.queue(self.driver.queue)
            for _ in 0..<count {
                try await lane.channel.publish(message, to: destination)
            }
            if self.driver.confirmWindow > 0 {
                try await lane.channel.waitForConfirms()
            } else {
                try await lane.channel.setPrefetch(count: 1)
            }
        }
    }
}
