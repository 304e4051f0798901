// SPDX-License-Identifier: Apache-2.0
package import AMQP091
package import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// ScriptedClient: the client's end of a connection, driven by a test, also with frames that no client library sends: the
// counterpart of ScriptedBroker, for tests of brokers. Used by one task. Contents are assembled; heartbeats are
// skipped; every wait has a deadline and fails with the dialogue.

/// The client's end of one connection, driven by a test.
package final class ScriptedClient {
    /// A method from the broker, with its content if it has one.
    package struct Event: Sendable {
        package var method: Method
        package var channel: UInt16
        package var properties = BasicProperties()
        package var body: [UInt8] = []

        /// The body as text.
        package var text: String { String(decoding: self.body, as: UTF8.self) }
    }

    private let loop: EventLoop
    private let link: ScriptedLink
    private let patience: Duration
    private var dialogue = Dialogue()
    private var pending: [Event] = []
    package private(set) var frameMaximum = 131_072

    private init(socket: StreamSocket, loop: EventLoop, patience: Duration) {
        self.loop = loop
        self.link = ScriptedLink(socket: socket, loop: loop)
        self.patience = patience
        self.link.start()
    }

    deinit { self.loop.shutdown() }

    /// Connects to the first address of a configuration, and sends nothing yet.
    package static func connect(
        _ configuration: AMQPClientConfiguration,
        patience: Duration = .seconds(10)
    ) async throws -> ScriptedClient {
        let loop = try EventLoop(name: "scripted")
        guard let address = configuration.addresses.first else {
            throw ScriptFailure(expected: "an address", found: "none", dialogue: "")
        }
        let socket = try await Connector.connect(
            host: address.host,
            port: address.port,
            deadline: MonotonicTime.now + patience,
            on: loop
        )
        return ScriptedClient(socket: socket, loop: loop, patience: patience)
    }

    /// Sends the protocol header and reads `connection.start`.
    @discardableResult
    package func greet() async throws -> Connection.Start {
        self.sendRaw(Frame.protocolHeader)
        return try await self.expect(Connection.Start.self)
    }

    /// Performs the whole login and opens channel 1.
    @discardableResult
    package func login(
        _ configuration: AMQPClientConfiguration,
        user: String = "guest",
        password: String = "guest",
        virtualHost: String? = nil,
        capabilities: [String] = ScriptedClient.capabilities
    ) async throws -> Connection.Start {
        let start = try await self.greet()
        let table = FieldTable(capabilities.map { ($0, .bool(true)) })
        let startOk = Connection.StartOk(
            clientProperties: ["capabilities": .table(table)],
            mechanism: "PLAIN",
            response: Array("\0\(user)\0\(password)".utf8),
            locale: "en_US"
        )
        try self.send(.connectionStartOk(startOk))
        let tune = try await self.expect(Connection.Tune.self)
        self.frameMaximum = Int(tune.frameMax)
        try self.send(
            .connectionTuneOk(.init(channelMax: tune.channelMax, frameMax: tune.frameMax, heartbeat: tune.heartbeat))
        )
        try self.send(.connectionOpen(.init(virtualHost: virtualHost ?? configuration.virtualHost)))
        _ = try await self.expect(Connection.OpenOk.self)
        try await self.call(.channelOpen(.init()))
        return start
    }

    /// Capabilities that clients commonly announce.
    package static let capabilities = [
        "publisher_confirms", "consumer_cancel_notify", "basic.nack", "exchange_exchange_bindings",
        "connection.blocked", "authentication_failure_close",
    ]

    // MARK: saying

    package func send(_ method: Method, on channel: UInt16? = nil) throws {
        let number = channel ?? (method.id.classID == 10 ? 0 : 1)
        self.dialogue.client("\(number): \(method.dialogueText)")
        self.link.send([.octets(try ScriptedBroker.octets(of: method, on: number))], drained: false)
    }

    package func publish(
        _ body: String,
        to exchange: String = "",
        key: String,
        mandatory: Bool = false,
        immediate: Bool = false,
        properties: BasicProperties = BasicProperties(),
        on channel: UInt16 = 1
    ) throws {
        let publish = Basic.Publish(exchange: exchange, routingKey: key, mandatory: mandatory, immediate: immediate)
        self.dialogue.client("\(channel): \(Method.basicPublish(publish).dialogueText) \"\(body.prefix(32))\"")
        let octets = try ScriptedBroker.octets(
            of: .basicPublish(publish),
            properties: properties,
            body: Array(body.utf8),
            on: channel,
            frameMaximum: self.frameMaximum
        )
        self.link.send([.octets(octets)], drained: false)
    }

    package func sendRaw(_ octets: [UInt8]) {
        self.dialogue.client("raw \(octets.prefix(32))")
        self.link.send([.octets(octets)], drained: false)
    }

    /// Stops reading, so that the broker's socket fills up.
    package func stopReading() { self.link.setPaused(true) }

    /// Resumes reading.
    package func resumeReading() { self.link.setPaused(false) }

    /// Drops the link.
    package func drop() { self.link.send([.close], drained: false) }

    // MARK: hearing

    /// Sends a request and waits for its reply; earlier methods are kept for `next`.
    @discardableResult
    package func call(_ method: Method, on channel: UInt16? = nil) async throws -> Method {
        try self.send(method, on: channel)
        return try await self.reply(method.id.replies).method
    }

    /// Gets a message from a queue; nil if it is empty.
    package func get(_ queue: String, noAck: Bool = true) async throws -> Event? {
        try self.send(.basicGet(.init(queue: queue, noAck: noAck)))
        let event = try await self.reply(Method.basicGet(.init(queue: queue)).id.replies)
        if case .basicGetEmpty = event.method { return nil }
        return event
    }

    private func reply(_ ids: [MethodID]) async throws -> Event {
        while true {
            let event = try await self.receive("\(ids.map(\.description).joined(separator: " or "))")
            if ids.contains(event.method.id) { return event }
            switch event.method {
            case .channelClose, .connectionClose:
                throw self.failure("a reply", "\(event.channel): \(event.method.dialogueText)")
            default: self.pending.append(event)
            }
        }
    }

    /// Returns the first method that was not taken yet.
    package func next(_ expected: String = "a method") async throws -> Event {
        if !self.pending.isEmpty { return self.pending.removeFirst() }
        return try await self.receive(expected)
    }

    /// Expects a method of this type.
    package func expect<Arguments>(_ type: Arguments.Type) async throws -> Arguments {
        try await self.expectEvent(type).arguments
    }

    /// Expects a method of this type, with its content.
    package func expectEvent<Arguments>(_ type: Arguments.Type) async throws -> (arguments: Arguments, event: Event) {
        let event = try await self.next("\(type)")
        guard let arguments = Mirror(reflecting: event.method).children.first?.value as? Arguments else {
            throw self.failure("\(type)", "\(event.channel): \(event.method.dialogueText)")
        }
        return (arguments, event)
    }

    /// Expects a delivery.
    package func delivery() async throws -> (deliver: Basic.Deliver, event: Event) {
        let (deliver, event) = try await self.expectEvent(Basic.Deliver.self)
        return (deliver, event)
    }

    /// Fails if a method was received and not taken, up to the reply of a request that goes through `queue`.
    package func expectNothing(before queue: String) async throws {
        try await self.call(.queueDeclare(.init(queue: queue, passive: true)))
        if let event = self.pending.first {
            throw self.failure("nothing", "\(event.channel): \(event.method.dialogueText)")
        }
    }

    /// Answers `connection.close` or `channel.close` and returns it.
    package func expectClose() async throws -> (code: ReplyCode, text: String, method: MethodID, isConnection: Bool) {
        while true {
            let event = try await self.next("a close")
            switch event.method {
            case .channelClose(let close):
                try self.send(.channelCloseOk(.init()), on: event.channel)
                return (close.replyCode, close.replyText, Self.id(close.classID, close.methodID), false)
            case .connectionClose(let close):
                try self.send(.connectionCloseOk(.init()))
                return (close.replyCode, close.replyText, Self.id(close.classID, close.methodID), true)
            default: throw self.failure("a close", "\(event.channel): \(event.method.dialogueText)")
            }
        }
    }

    /// Expects the end of the link, after any frames.
    package func expectEnd() async throws {
        let deadline = MonotonicTime.now + self.patience
        while try await self.frame("the end of the link", deadline) != nil {}
    }

    private static func id(_ classID: UInt16, _ methodID: UInt16) -> MethodID {
        MethodID(classID: classID, methodID: methodID)
    }

    private func receive(_ expected: String) async throws -> Event {
        let deadline = MonotonicTime.now + self.patience
        while true {
            let (frame, channel) = try await self.mustFrame(expected, deadline)
            if frame == .heartbeat { continue }
            guard case .method(let method) = frame else {
                throw self.failure(expected, ScriptedBroker.text(frame, channel))
            }
            var event = Event(method: method, channel: channel)
            guard method.hasContent else { return event }
            guard case (.header(let header), channel) = try await self.mustFrame("a content header", deadline) else {
                throw self.failure("a content header", "another frame")
            }
            event.properties = header.properties
            while UInt64(event.body.count) < header.bodySize {
                guard case (.body(let octets), channel) = try await self.mustFrame("a body", deadline) else {
                    throw self.failure("a body", "another frame")
                }
                event.body += octets
            }
            return event
        }
    }

    private func mustFrame(
        _ expected: String,
        _ deadline: MonotonicTime
    ) async throws -> (ScriptedBroker.Received, UInt16) {
        guard let frame = try await self.frame(expected, deadline) else {
            throw self.failure(expected, "the end of the link")
        }
        return frame
    }

    private func frame(
        _ expected: String,
        _ deadline: MonotonicTime
    ) async throws -> (ScriptedBroker.Received, UInt16)? {
        while true {
            let (found, count, end) = self.link.take { octets, end in
                let found = Result { try ScriptedBroker.firstFrame(in: octets.span.bytes) }
                if case .success(let frame?) = found { octets.removeFirst(frame.end) }
                return (found, octets.count, end)
            }
            do {
                if let (frame, channel, _) = try found.get() {
                    self.dialogue.broker(ScriptedBroker.text(frame, channel))
                    return (frame, channel)
                }
            } catch {
                throw self.failure(expected, "octets that are no frame: \(error)")
            }
            if end != nil { return nil }
            guard await self.link.waitForMore(than: count, until: deadline) else {
                throw self.failure(expected, Task.isCancelled ? "cancellation" : "nothing for \(self.patience)")
            }
        }
    }

    private func failure(_ expected: String, _ found: String) -> ScriptFailure {
        ScriptFailure(expected: expected, found: found, dialogue: self.dialogue.text)
    }
}
