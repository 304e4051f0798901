// SPDX-License-Identifier: Apache-2.0
import AMQP091

// LatencyWorkload: one message at a time. confirm-each waits for the confirm of each publish; pingpong publishes to the
// queue it consumes from and waits for the delivery.

struct LatencyWorkload: Sendable {
    let driver: AMQPDriver

    func run() async throws -> Measurement {
        let connection = try await self.driver.connect()
        let measurement = try await self.driver.run(beside: connection) {
            let channel = try await connection.openChannel()
            return switch self.driver.mode {
            case .confirmEach: try await self.confirmEach(channel)
            default: try await self.pingPong(channel)
            }
        }
        try await connection.close()
        return measurement
    }

    private func confirmEach(_ channel: AMQPChannel) async throws -> Measurement {
        try await channel.enableConfirms()
        let (message, destination) = (self.message, AMQPDestination.queue(self.driver.queue))
        return try await self.measure {
            try await channel.publishAndConfirm(message, to: destination)
        }
    }

    private func pingPong(_ channel: AMQPChannel) async throws -> Measurement {
        let (message, destination) = (self.message, AMQPDestination.queue(self.driver.queue))
        return try await channel.consume(self.driver.queue, acknowledgement: .automatic) { deliveries in
            var iterator = deliveries.makeAsyncIterator()
            return try await self.measure {
                try await channel.publish(message, to: destination)
                _ = try await iterator.next(isolation: nil)
            }
        }
    }

    private var message: AMQPMessage {
        AMQPMessage(AMQPBody([UInt8](repeating: 0x61, count: self.driver.size)))
    }

    private func measure(_ roundTrip: () async throws -> Void) async throws -> Measurement {
        for _ in 0..<self.driver.warmup { try await roundTrip() }
        var times: [Double] = []
        times.reserveCapacity(self.driver.count)
        let start = Reading.now
        var before = Reading.seconds
        for _ in 0..<self.driver.count {
            try await roundTrip()
            let after = Reading.seconds
            times.append(after - before)
            before = after
        }
        return Measurement(start: start, end: Reading.now, roundTrips: times)
    }
}
