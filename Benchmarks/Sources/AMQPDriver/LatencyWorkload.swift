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
        var trips = RoundTrips(of: self.driver)
        repeat {
            try await channel.publishAndConfirm(message, to: destination)
        } while trips.goOn()
        return trips.measurement
    }

    private func pingPong(_ channel: AMQPChannel) async throws -> Measurement {
        let (message, destination) = (self.message, AMQPDestination.queue(self.driver.queue))
        return try await channel.consume(self.driver.queue, acknowledgement: .automatic) { deliveries in
            var trips = RoundTrips(of: self.driver)
            try await channel.publish(message, to: destination)
            for try await _ in deliveries {
                guard trips.goOn() else { break }
                try await channel.publish(message, to: destination)
            }
            return trips.measurement
        }
    }

    private var message: AMQPMessage {
        AMQPMessage(AMQPBody([UInt8](repeating: 0x61, count: self.driver.size)))
    }
}

/// The times of round trips, after those that warm up.
private struct RoundTrips {
    private var left: Int
    private var warmup: Int
    private var start: Reading
    private var before: Double
    private var times: [Double] = []

    init(of driver: AMQPDriver) {
        self.left = driver.count
        self.warmup = driver.warmup
        self.times.reserveCapacity(driver.count)
        self.start = .now
        self.before = Reading.seconds
    }

    /// One is over; says whether another is wanted.
    mutating func goOn() -> Bool {
        if self.warmup > 0 {
            self.warmup -= 1
            if self.warmup == 0 {
                self.start = .now
                self.before = Reading.seconds
            }
            return true
        }
        let after = Reading.seconds
        self.times.append(after - self.before)
        self.before = after
        self.left -= 1
        return self.left > 0
    }

    var measurement: Measurement { Measurement(start: self.start, end: .now, roundTrips: self.times) }
}
