// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollNetworking

// LayerBenchmarks: what one step of each layer costs, by name, with no broker to talk to.
// It stands in the package of the layers, whose parts no other package reaches. `swift run -c release LayerBenchmarks
// [PART OF A NAME]` prints nanoseconds per step: the least and the median of nine runs.

@main
enum LayerBenchmarks {
    static func main() async throws {
        let wanted = CommandLine.arguments.dropFirst().first ?? ""
        print("ns per step".padded(to: 44) + "least".padded(to: 10, left: true) + "median".padded(to: 10, left: true))
        for benchmark in Self.wire + Self.machines where benchmark.name.contains(wanted) { benchmark.run() }
        try await LoopBenchmarks.run(wanted)
        try await BrokerBenchmarks.run(wanted)
    }

    // MARK: AMQP091Wire

    private static let wire = [16, 1024].flatMap { size in
        [
            Benchmark("encode publish, \(size) B", steps: 1000) {
                var buffer = WireBuffer(capacity: 2 << 20)
                let body = [UInt8](repeating: 1, count: size)
                return {
                    for _ in 0..<1000 {
                        body.withUnsafeBytes { octets in
                            try? buffer.appendPublish(
                                channel: 1,
                                exchange: "",
                                routingKey: .text("a-queue-with-a-long-name"),
                                mandatory: false,
                                properties: BasicProperties(),
                                body: octets,
                                maximumPayload: 131_064
                            )
                        }
                    }
                    buffer.removeAll()
                }
            },
            Benchmark("decode deliver, \(size) B", steps: 1000) {
                let octets = Self.deliveries(1000, size: size)
                return {
                    var offset = 0
                    var tags: UInt64 = 0
                    while case .delivery(let record, _, let end) = DeliverDecoder.find(
                        in: octets.span.bytes,
                        from: offset,
                        maximumFrameSize: 131_072,
                        maximumContiguous: 1 << 20
                    ) {
                        tags &+= record.tag
                        offset = end
                    }
                    precondition(tags == 500_500 && offset == octets.count, "every delivery is found")
                }
            },
        ]
    }

    /// Deliveries as the broker sends them, one behind the other.
    private static func deliveries(_ count: Int, size: Int) -> [UInt8] {
        var buffer = WireBuffer(capacity: count * (size + 100))
        let body = [UInt8](repeating: 1, count: size)
        for tag in 1...count {
            let deliver = Basic.Deliver(
                consumerTag: "consumer",
                deliveryTag: DeliveryTag(rawValue: UInt64(tag)),
                redelivered: false,
                exchange: "",
                routingKey: "queue"
            )
            let channel = ChannelNumber(rawValue: 1)
            let header = ContentHeader(bodySize: UInt64(size), properties: BasicProperties())
            guard (try? Method.basicDeliver(deliver).encodeFrame(channel: channel, into: &buffer)) != nil,
                (try? header.encodeFrame(channel: channel, into: &buffer)) != nil
            else { preconditionFailure("a delivery that can be encoded") }
            body.withUnsafeBytes { buffer.appendBodyFrames(channel: 1, body: $0, maximumPayload: 131_064) }
        }
        return buffer.withUnsafeBytes { Array($0) }
    }

    // MARK: AMQP091Protocol

    private static let machines = [
        Benchmark("confirm ring, one confirm per 100", steps: 1000) {
            var ring = ConfirmRing(capacity: 4096)
            return {
                for step in 1...1000 {
                    let sequence = ring.append(octets: 16, token: 0)
                    guard step % 100 == 0 else { continue }
                    try? ring.settle(tag: sequence, multiple: true, outcome: .confirmed) { _, _, _ in }
                }
            }
        },
        Benchmark("confirm ring, each confirmed", steps: 1000) {
            var ring = ConfirmRing(capacity: 4096)
            return {
                for _ in 1...1000 {
                    let sequence = ring.append(octets: 16, token: 0)
                    try? ring.settle(tag: sequence, multiple: false, outcome: .confirmed) { _, _, _ in }
                }
            }
        },
        Benchmark("ack runs, each settled, one ack per 100", steps: 1000) {
            var runs = AckRuns()
            var tag: UInt64 = 0
            return {
                for step in 1...1000 {
                    tag += 1
                    _ = runs.settle(tag)
                    if step % 100 == 0 { runs.drain { _, _ in } }
                }
            }
        },
    ]
}
