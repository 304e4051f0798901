// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import EpollConcurrency
import EpollNetworking
import Testing

// RecoveryStage: brokers for RecoveryDialogueTests, a new one for each connection of a client. They answer politely, and
// drop the link at one step of a recovery as often as a test wants. Here is what they say; what must come of it is there.

final class RecoveryStage: Sendable {
    /// The steps of a connection until it works again, in this order.
    enum Step: String, CaseIterable, Sendable {
        case tcp, protocolHeader, startOk, open
        case topologyChannel, exchangeDeclare, queueDeclare, queueBind, topologyChannelClose
        case channelOpen
        /// Of a publisher.
        case confirmSelect, republish
        /// Of a consumer.
        case qos, consume, delivery

        static let publishing = Self.allCases.filter { ![.qos, .consume, .delivery].contains($0) }
        static let consuming = Self.allCases.filter { ![.confirmSelect, .republish].contains($0) }
    }

    /// Where in a step the link drops.
    enum Cut: String, CaseIterable, Sendable {
        /// The broker has said nothing yet.
        case before
        /// The broker has said half of a frame.
        case during
        /// The broker has said all.
        case after
    }

    struct Fault: Sendable, CustomTestStringConvertible {
        var step: Step
        var cut: Cut
        /// On how many connections, one after the other.
        var times: Int

        var testDescription: String { "\(self.cut.rawValue) \(self.step.rawValue), \(self.times) times" }
    }

    /// The client did what no step of a recovery is.
    struct Unexpected: Error { var text: String }

    struct Published: Sendable {
        var messageID: String?
        var body: String
    }

    /// The frames of one connection.
    struct Session: Sendable {
        var publishes: [Published] = []
        var settled: [UInt64] = []
    }

    private struct State {
        var sessions: [Session] = []
        var first: ScriptedBroker?
        var faults = 0
    }

    /// How many publishes have come on the first connection, each time there is one more.
    private let (firstPublishes, publishedFirst) = AsyncStream.makeStream(of: Int.self)
    private let fault: Fault
    /// Connections that refuse every publish, the first ones.
    private let refusing: Int
    private let state = Locked(State())
    private let tasks = Locked([Task<Void, any Error>]())

    init(_ fault: Fault, refusing: Int = 0) {
        self.fault = fault
        self.refusing = refusing
    }

    var sessions: [Session] { self.state.withLock { $0.sessions } }
    /// How often the fault happened.
    var faults: Int { self.state.withLock { $0.faults } }

    /// Waits until so many publishes have come on the first connection.
    func waitForPublishes(_ count: Int) async {
        for await number in self.firstPublishes where number == count { return }
    }

    /// Drops the first connection.
    func dropFirst() { self.state.withLock { $0.first }?.drop() }

    /// Ends the brokers; throws what their scripts did not expect.
    func end() async throws {
        for task in self.tasks.withLock({ $0 }) {
            task.cancel()
            do { try await task.value } catch is CancellationError {}
        }
    }

    /// Whether the link is to drop now.
    private func drops(at step: Step, _ number: Int) -> Cut? {
        self.state.withLock { state in
            guard step == self.fault.step, number > 1, state.faults < self.fault.times else { return nil }
            state.faults += 1
            return self.fault.cut
        }
    }

    /// The client's configuration.
    func connect(_ configuration: AMQPClientConfiguration) async throws(AMQPError) -> AMQPConnection {
        let number = self.state.withLock { state in
            state.sessions.append(Session())
            return state.sessions.count
        }
        if self.drops(at: .tcp, number) != nil {
            throw AMQPError(.connectFailed, "nobody listens", isSafeToRetry: true)
        }
        let (brokers, handOver) = AsyncStream.makeStream(of: ScriptedBroker.self)
        let task = Task {
            try await ScriptedBroker.withBroker { broker in
                if number == 1 { self.state.withLock { $0.first = broker } }
                handOver.yield(broker)
                handOver.finish()
                try await self.serve(broker, number)
                // The socket stays as the script has left it until the test is over.
                let (never, keep) = AsyncStream.makeStream(of: Void.self)
                for await _ in never {}
                keep.finish()
            }
        }
        self.tasks.withLock { $0.append(task) }
        do {
            for await broker in brokers { return try await broker.connect(configuration) }
        } catch let error as AMQPError {
            throw error
        } catch {
            throw AMQPError(.connectFailed, "\(error)")
        }
        throw AMQPError(.connectFailed, "there is no broker")
    }

    // MARK: the script

    /// Answers until the link ends.
    private func serve(_ broker: ScriptedBroker, _ number: Int) async throws {
        do {
            try await broker.expectProtocolHeader()
            guard try self.answer(broker, .protocolHeader, number, .connectionStart(ScriptedBroker.start)) else {
                return
            }
            var channels: [UInt16: Step] = [:]
            while try await self.serveOne(broker, number, &channels) {}
        } catch let failure as ScriptFailure
            where failure.found.contains("end of the link") || failure.found == "cancellation"
        {
            // The client left, as the test wants it, or the test is over.
        }
    }

    /// Says an answer, or what the fault leaves of it; false when the link was dropped.
    private func answer(
        _ broker: ScriptedBroker,
        _ step: Step?,
        _ number: Int,
        _ method: Method,
        on channel: UInt16 = 0,
        octets: [UInt8]? = nil
    ) throws -> Bool {
        let octets = try octets ?? ScriptedBroker.octets(of: method, on: channel)
        switch step.flatMap({ self.drops(at: $0, number) }) {
        case nil:
            broker.sendRaw(octets)
            return true
        case .before?: break
        case .during?: broker.sendRaw(Array(octets.prefix(octets.count / 2)))
        case .after?: broker.sendRaw(octets)
        }
        broker.drop()
        return false
    }

    /// Answers the next method; false when the link was dropped.
    private func serveOne(
        _ broker: ScriptedBroker,
        _ number: Int,
        _ channels: inout [UInt16: Step]
    ) async throws -> Bool {
        let (method, channel) = try await broker.expectMethod()
        func reply(_ step: Step?, _ reply: Method) throws -> Bool {
            try self.answer(broker, step, number, reply, on: channel)
        }
        switch method {
        case .connectionStartOk:
            let tune = Connection.Tune(channelMax: 2047, frameMax: 131_072, heartbeat: 60)
            return try reply(.startOk, .connectionTune(tune))
        case .connectionTuneOk: return true
        case .connectionOpen: return try reply(.open, .connectionOpenOk(.init()))
        case .connectionClose: return try reply(nil, .connectionCloseOk(.init()))
        case .channelOpen:
            // The first is the one the topology is declared on.
            channels[channel] = channels.isEmpty ? .topologyChannel : .channelOpen
            return try reply(channels[channel], .channelOpenOk(.init()))
        case .channelClose:
            let isTopology = channels.updateValue(.channelOpen, forKey: channel) == .topologyChannel
            return try reply(isTopology ? .topologyChannelClose : nil, .channelCloseOk(.init()))
        case .exchangeDeclare: return try reply(.exchangeDeclare, .exchangeDeclareOk(.init()))
        case .queueDeclare(let declare):
            let declareOk = Queue.DeclareOk(queue: declare.queue, messageCount: 0, consumerCount: 0)
            return try reply(.queueDeclare, .queueDeclareOk(declareOk))
        case .queueBind: return try reply(.queueBind, .queueBindOk(.init()))
        case .confirmSelect: return try reply(.confirmSelect, .confirmSelectOk(.init()))
        case .basicQos: return try reply(.qos, .basicQosOk(.init()))
        case .basicCancel(let cancel): return try reply(nil, .basicCancelOk(.init(consumerTag: cancel.consumerTag)))
        case .basicConsume(let consume):
            guard try reply(.consume, .basicConsumeOk(.init(consumerTag: consume.consumerTag))) else { return false }
            let deliver = Basic.Deliver(
                consumerTag: consume.consumerTag,
                deliveryTag: DeliveryTag(1),
                redelivered: number > 1,
                exchange: "",
                routingKey: "orders"
            )
            let octets = try ScriptedBroker.octets(
                of: .basicDeliver(deliver),
                body: Array("from \(number)".utf8),
                on: channel
            )
            return try self.answer(broker, .delivery, number, .basicDeliver(deliver), on: channel, octets: octets)
        case .basicAck(let ack):
            self.state.withLock { $0.sessions[number - 1].settled.append(ack.deliveryTag.rawValue) }
            return true
        case .basicPublish:
            let content = try await self.content(broker)
            let count = self.state.withLock { state in
                state.sessions[number - 1].publishes.append(content)
                return state.sessions[number - 1].publishes.count
            }
            if number <= self.refusing {
                return try reply(nil, .basicNack(.init(deliveryTag: DeliveryTag(UInt64(count)), requeue: false)))
            }
            // The first connection confirms nothing.
            guard number > 1 else {
                self.publishedFirst.yield(count)
                return true
            }
            return try reply(.republish, .basicAck(.init(deliveryTag: DeliveryTag(UInt64(count)))))
        default:
            throw Unexpected(text: "expected a method of a recovery, found \(method)\n\(broker.dialogue)")
        }
    }

    private func content(_ broker: ScriptedBroker) async throws -> Published {
        guard case .header(let header) = try await broker.next("a content header").0 else {
            throw Unexpected(text: "expected a content header, found another frame\n\(broker.dialogue)")
        }
        var body: [UInt8] = []
        while UInt64(body.count) < header.bodySize {
            guard case .body(let octets) = try await broker.next("a body").0 else {
                throw Unexpected(text: "expected a body, found another frame\n\(broker.dialogue)")
            }
            body += octets
        }
        return Published(messageID: header.properties.messageID, body: String(decoding: body, as: UTF8.self))
    }
}
