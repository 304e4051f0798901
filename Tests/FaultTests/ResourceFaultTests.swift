// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import EpollConcurrency
import EpollNetworking
import Glibc
import Testing

// ResourceFaultTests: a process without descriptors, ports, names, memory or a disk, and one under a storm of signals: each
// in a separate process, which succeeds only if all conditions held.

@Suite("Faults of resources", .serialized, .timeLimit(.minutes(5)))
struct ResourceFaultTests {
    /// One message there and back.
    static func roundTrip(_ channel: AMQPChannel, _ body: String) async throws {
        try await channel.publishAndConfirm(AMQPMessage(body), to: .queue("q"))
        try #require(try await channel.get("q", acknowledgement: .automatic)?.body.string == body)
    }

    static func channel(_ connection: AMQPConnection) async throws -> AMQPChannel {
        let channel = try await connection.openChannel()
        try await channel.declareQueue("q")
        try await channel.enableConfirms()
        return channel
    }

    @Test("F23: without descriptors a connect fails with that reason, existing connections continue, and it recovers")
    func descriptors() async throws {
        await #expect(processExitsWith: .success) {
            try await InProcessBroker.withBroker { broker in
                let configuration = broker.configuration
                let standing = try await AMQPConnection.connect(configuration)
                let channel = try await ResourceFaultTests.channel(standing)
                try await ChildProcess.withoutDescriptors {
                    for _ in 0..<50 {
                        do {
                            _ = try await AMQPConnection.connect(configuration)
                            throw ChildProcess.Failure(description: "connected without a descriptor")
                        } catch let error as AMQPError {
                            try #require(error.code == .connectFailed, "\(error)")
                            try #require(error.isSafeToRetry)
                            try #require(error.description.contains("Too many open files"), "\(error)")
                        }
                        try await ResourceFaultTests.roundTrip(channel, "standing")
                    }
                    do {
                        _ = try EventLoop(name: "none")
                        throw ChildProcess.Failure(description: "a loop without a descriptor")
                    } catch let error as SystemError {
                        try #require("\(error)".contains("Too many open files"), "\(error)")
                    }
                }
                let again = try await AMQPConnection.connect(configuration)
                try await again.close()
                try await standing.close()
            }
        }
    }

    @Test(
        "F24: without local ports a connect fails with that reason and leaves nothing, and later it works again",
        .enabled(if: ChildProcess.mayIsolate, "a network of one's own needs root")
    )
    func ports() async throws {
        await #expect(processExitsWith: .success) {
            try await ChildProcess.isolated {
                try ChildProcess.write("40000 40003", to: "/proc/sys/net/ipv4/ip_local_port_range")
                var options = InProcessBroker.Options()
                options.endpoints = [.loopback(port: 5672)]
                try await InProcessBroker.withBroker(options) { broker in
                    let configuration = broker.configuration
                    var standing: [AMQPConnection] = []
                    for _ in 0..<4 { standing.append(try await AMQPConnection.connect(configuration)) }
                    for _ in 0..<20 {
                        do {
                            _ = try await AMQPConnection.connect(configuration)
                            throw ChildProcess.Failure(description: "a fifth connection with four ports")
                        } catch let error as AMQPError {
                            try #require(error.code == .connectFailed, "\(error)")
                            try #require(error.description.contains("Cannot assign requested address"), "\(error)")
                        }
                    }
                    for connection in standing {
                        try await ResourceFaultTests.roundTrip(ResourceFaultTests.channel(connection), "standing")
                    }
                    try ChildProcess.write("40000 40010", to: "/proc/sys/net/ipv4/ip_local_port_range")
                    standing.append(try await AMQPConnection.connect(configuration))
                    for connection in standing { try await connection.close() }
                }
            }
        }
    }

    @Test(
        "F27: a name service that refuses is a typed error that names the host, one that is silent ends at the deadline",
        .enabled(if: ChildProcess.mayIsolate, "a name service of one's own needs root")
    )
    func names() async throws {
        await #expect(processExitsWith: .success) {
            try await ChildProcess.isolated(resolver: "nameserver 127.0.0.1\noptions timeout:10 attempts:3\n") {
                try await InProcessBroker.withBroker { broker in
                    let standing = try await broker.connect()
                    let channel = try await ResourceFaultTests.channel(standing)
                    var configuration = broker.configuration
                    configuration.addresses = [.host("broker.example")]
                    // Nobody listens on port 53: the query is refused.
                    do throws(AMQPError) {
                        _ = try await AMQPConnection.connect(configuration)
                    } catch {
                        try #require(error.code == .connectFailed, "\(error)")
                        try #require(error.isSafeToRetry)
                        try #require(error.description.contains("broker.example"), "\(error)")
                    }
                    // Somebody listens, and says nothing.
                    let silent = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
                    var address = sockaddr_in()
                    address.sin_family = sa_family_t(AF_INET)
                    address.sin_port = UInt16(53).bigEndian
                    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
                    let bound = withUnsafePointer(to: &address) { address in
                        address.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                            bind(silent, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                        }
                    }
                    try #require(bound == 0)
                    configuration.connectTimeout = .milliseconds(700)
                    // More lookups than there are threads for them, none of which holds up anything else.
                    let waiting = configuration
                    try await withThrowingTaskGroup(of: AMQPError.Code?.self) { group in
                        for _ in 0..<20 {
                            group.addTask {
                                do throws(AMQPError) {
                                    _ = try await AMQPConnection.connect(waiting)
                                    return nil
                                } catch {
                                    return error.code
                                }
                            }
                        }
                        for _ in 0..<200 { try await ResourceFaultTests.roundTrip(channel, "meanwhile") }
                        for try await code in group { try #require(code == .timedOut) }
                    }
                    try await standing.close()
                }
            }
        }
    }

    @Test("F26, F25: a storm of signals, and writes to a closed peer, have no effect")
    func signals() async throws {
        await #expect(processExitsWith: .success) {
            // The default would end the process.
            signal(SIGPIPE, SIG_DFL)
            let end = try ChildProcess.storm([SIGURG, SIGWINCH, SIGUSR1])
            try await InProcessBroker.withBroker { broker in
                for round in 0..<5 {
                    let connection = try await AMQPConnection.connect(broker.configuration)
                    let channel = try await ResourceFaultTests.channel(connection)
                    for number in 0..<100 { try await ResourceFaultTests.roundTrip(channel, "\(round) \(number)") }
                    let body = AMQPMessage(AMQPBody([UInt8](repeating: 1, count: 50_000)))
                    await broker.dropConnections()
                    do {
                        while true { try await channel.publish(body, to: .queue("q")) }
                    } catch let error as AMQPError {
                        try #require(error.code == .connectionClosed, "\(error)")
                    }
                }
            }
            try #require(end() > 100)
        }
    }

    @Test("F34: a client flooded in both directions that reads nothing stays within its configured limits")
    func memory() async throws {
        await #expect(processExitsWith: .success) {
            var configuration = AMQPClientConfiguration()
            configuration.heartbeat = .zero
            try await ScriptedBroker.withChannel(configuration, patience: .seconds(120)) {
                broker,
                connection,
                channel in
                async let starting = channel.deliveries(from: "q", consumerTag: "c", acknowledgement: .automatic)
                try await broker.expect(Basic.Consume.self, on: 1)
                try broker.send(.basicConsumeOk(.init(consumerTag: "c")), on: 1)
                let deliveries = try await starting
                let deliver = Basic.Deliver(
                    consumerTag: "c",
                    deliveryTag: DeliveryTag(1),
                    redelivered: false,
                    exchange: "",
                    routingKey: "k"
                )
                let one = try ScriptedBroker.octets(
                    of: .basicDeliver(deliver),
                    body: [UInt8](repeating: 7, count: 100_000),
                    on: 1
                )
                let ten = Array(repeatElement(one, count: 10).joined())
                let before = ChildProcess.residentOctets
                try #require(before > 1 << 20)
                // 400 MB of deliveries, of one piece of memory, to a consumer that does not read; and a broker that does not.
                for _ in 0..<400 { broker.sendRaw(ten) }
                broker.stopReading()
                let body = AMQPMessage(AMQPBody([UInt8](repeating: 7, count: 100_000)))
                var published = 0
                do {
                    while true {
                        try await channel.publish(body, to: .queue("q"), timeout: .milliseconds(200))
                        published += 1
                    }
                } catch let error as AMQPError {
                    try #require(error.code == .timedOut, "\(error)")
                }
                try #require(published < 200)
                let full = ChildProcess.residentOctets
                try #require(full - before < 100 << 20, "\((full - before) >> 20) MiB more")
                var count = 0
                for try await delivery in deliveries {
                    try #require(delivery.body.count == 100_000)
                    count += 1
                    if count == 4000 { break }
                }
                let read = ChildProcess.residentOctets
                try #require(read - before < 100 << 20, "\((read - before) >> 20) MiB more after reading")
                connection.abort()
            }
        }
    }

    @Test("F35: a full disk loses the trace, and the client continues")
    func fullDisk() async throws {
        await #expect(processExitsWith: .success) {
            setenv("AMQP_TRACE", "1", 1)
            let full = open("/dev/full", O_WRONLY)
            try #require(full >= 0 && dup2(full, 2) == 2)
            try await InProcessBroker.withBroker { broker in
                let connection = try await broker.connect()
                let channel = try await ResourceFaultTests.channel(connection)
                for number in 0..<100 { try await ResourceFaultTests.roundTrip(channel, "\(number)") }
                try await connection.close()
            }
            // So is whoever else writes there.
            try #require(write(2, "x", 1) == -1 && errno == ENOSPC)
        }
    }
}
