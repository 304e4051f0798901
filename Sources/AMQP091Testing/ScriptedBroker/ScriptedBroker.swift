// SPDX-License-Identifier: Apache-2.0
package import AMQP091
package import AMQP091Wire
import EpollConcurrency
import EpollNetworking
package import Logging

// ScriptedBroker: the broker's end of one connection, driven by a test: expect, send, inject faults.
// It knows frames, not rules: it sends no reply by itself. Every expectation has a deadline and fails with the whole
// dialogue. It uses a socket pair: no port, no thread but that of its loop.
// Here: life and expectations. ScriptedBroker+Sending: sending and faults; +Login: whole dialogues.

/// The broker's end of one connection, driven by a test.
package final class ScriptedBroker: Sendable {
    /// A frame from the client.
    package enum Received: Equatable, Sendable {
        case protocolHeader([UInt8])
        case method(Method)
        case header(ContentHeader)
        case body([UInt8])
        case heartbeat
    }

    /// An assembled publish from the client.
    package struct Publish: Equatable, Sendable {
        package var method: Basic.Publish
        package var properties: BasicProperties
        package var body: [UInt8]
    }

    struct State: Sendable {
        var dialogue = Dialogue()
        var held: [UInt8]?
        var pieceSize: Int?
        var frameMaximum = 131_072
        /// The client's protocol header is expected next.
        var hasGreeted = false
    }

    let link: ScriptedLink
    let state = Locked(State())
    private let client: Locked<StreamSocket?>
    private let loop: EventLoop
    /// The timeout of an expectation.
    package let patience: Duration

    private init(patience: Duration) throws {
        let (ours, theirs) = try StreamSocket.pair()
        self.loop = try EventLoop(name: "scripted")
        self.link = ScriptedLink(socket: ours, loop: self.loop)
        self.client = Locked(theirs)
        self.patience = patience
        self.link.start()
    }

    /// Runs `body` with a broker without a client yet, and drops the link afterwards.
    ///
    /// - Parameters:
    ///   - patience: The timeout of each expectation.
    ///   - body: Receives the broker.
    /// - Returns: The result of `body`.
    /// - Throws: The error of `body`.
    package static func withBroker<Result>(
        patience: Duration = .seconds(10),
        _ body: (ScriptedBroker) async throws -> Result
    ) async throws -> Result {
        let broker = try ScriptedBroker(patience: patience)
        defer { broker.loop.shutdown() }
        return try await body(broker)
    }

    /// Connects a client to this broker; the script must answer meanwhile.
    package func connect(
        _ configuration: AMQPClientConfiguration = AMQPClientConfiguration(),
        logger: Logger? = nil
    ) async throws -> AMQPConnection {
        guard let socket = self.client.withLock({ $0.take() }) else {
            throw self.failure("one client", "a second")
        }
        return try await AMQPConnection.connect(over: socket, configuration, logger: logger)
    }

    // MARK: expectations

    /// Expects a method of this type, such as `Queue.Declare.self`.
    ///
    /// Heartbeats before it are skipped.
    @discardableResult
    package func expect<Arguments>(_ type: Arguments.Type, on channel: UInt16? = nil) async throws -> Arguments {
        let expected = channel.map { "\(type) on channel \($0)" } ?? "\(type)"
        let (frame, number) = try await self.nextButHeartbeat(expected)
        guard case .method(let method) = frame, channel == nil || channel == number,
            let arguments = Mirror(reflecting: method).children.first?.value as? Arguments
        else { throw self.failure(expected, Self.text(frame, number)) }
        return arguments
    }

    /// Expects this method.
    @discardableResult
    package func expect(_ id: MethodID, on channel: UInt16? = nil) async throws -> Method {
        let (method, number) = try await self.expectMethod()
        guard method.id == id, channel == nil || channel == number else {
            throw self.failure("\(id)", Self.text(.method(method), number))
        }
        return method
    }

    /// Expects any method.
    package func expectMethod() async throws -> (method: Method, channel: UInt16) {
        let (frame, number) = try await self.nextButHeartbeat("a method")
        guard case .method(let method) = frame else { throw self.failure("a method", Self.text(frame, number)) }
        return (method, number)
    }

    /// Expects a whole publish.
    package func expectPublish(on channel: UInt16? = nil) async throws -> Publish {
        let method = try await self.expect(Basic.Publish.self, on: channel)
        let (frame, number) = try await self.nextButHeartbeat("a content header")
        guard case .header(let header) = frame else { throw self.failure("a content header", Self.text(frame, number)) }
        var body: [UInt8] = []
        while UInt64(body.count) < header.bodySize {
            let (frame, number) = try await self.nextButHeartbeat("a body frame")
            guard case .body(let octets) = frame else { throw self.failure("a body frame", Self.text(frame, number)) }
            body += octets
        }
        return Publish(method: method, properties: header.properties, body: body)
    }

    /// Expects a heartbeat as the next frame.
    package func expectHeartbeat() async throws {
        let (frame, number) = try await self.next("a heartbeat")
        guard frame == .heartbeat else { throw self.failure("a heartbeat", Self.text(frame, number)) }
    }

    /// Expects the protocol header.
    package func expectProtocolHeader() async throws {
        let (frame, number) = try await self.next("the protocol header")
        guard frame == .protocolHeader(Frame.protocolHeader) else {
            throw self.failure("the protocol header", Self.text(frame, number))
        }
    }

    /// Expects the end of the link, with only heartbeats before it.
    package func expectEnd() async throws {
        let deadline = MonotonicTime.now + self.patience
        while let (frame, number) = try await self.nextOrEnd("the end of the link", deadline) {
            guard frame == .heartbeat else { throw self.failure("the end of the link", Self.text(frame, number)) }
        }
    }

    /// Expects the end of the link, after any frames.
    package func drain() async throws {
        let deadline = MonotonicTime.now + self.patience
        while try await self.nextOrEnd("the end of the link", deadline) != nil {}
    }

    private func nextButHeartbeat(_ expected: String) async throws -> (Received, UInt16) {
        while true {
            let next = try await self.next(expected)
            if next.0 != .heartbeat { return next }
        }
    }

    /// Expects any frame.
    package func next(_ expected: String = "a frame") async throws -> (Received, UInt16) {
        let deadline = MonotonicTime.now + self.patience
        guard let next = try await self.nextOrEnd(expected, deadline) else {
            throw self.failure(expected, "the end of the link")
        }
        return next
    }

    private func nextOrEnd(_ expected: String, _ deadline: MonotonicTime) async throws -> (Received, UInt16)? {
        while true {
            var count = 0
            var end: ScriptedLink.End?
            let found = self.link.take { octets, reason in
                let frame = Swift.Result { try self.decode(&octets) }
                count = octets.count
                end = reason
                return frame
            }
            let frame: (Received, UInt16)?
            do { frame = try found.get() } catch { throw self.failure(expected, "octets that are no frame: \(error)") }
            if let frame {
                self.state.withLock { $0.dialogue.client(Self.text(frame.0, frame.1)) }
                return frame
            }
            if end != nil {
                self.state.withLock { $0.dialogue.client("(end)") }
                guard count == 0 else { throw self.failure(expected, "the end of the link in the middle of a frame") }
                return nil
            }
            guard await self.link.waitForMore(than: count, until: deadline) else {
                throw self.failure(expected, Task.isCancelled ? "cancellation" : "nothing for \(self.patience)")
            }
        }
    }

    private func decode(_ octets: inout [UInt8]) throws -> (Received, UInt16)? {
        if !self.state.withLock({ $0.hasGreeted }) {
            guard octets.count >= 8 else { return nil }
            self.state.withLock { $0.hasGreeted = true }
            defer { octets.removeFirst(8) }
            return (.protocolHeader(Array(octets[..<8])), 0)
        }
        guard let (received, channel, end) = try Self.firstFrame(in: octets.span.bytes) else { return nil }
        octets.removeFirst(end)
        return (received, channel)
    }

    static func firstFrame(in span: RawSpan) throws -> (Received, channel: UInt16, end: Int)? {
        let decoder = FrameDecoder(maximumFrameSize: Int(UInt32.max))
        guard let frame = try decoder.next(in: span, from: 0) else { return nil }
        let payload = span.extracting(frame.payload)
        let received: Received =
            switch frame.type {
            case .method: .method(try Method.decode(payload))
            case .header: .header(try ContentHeader.decode(payload))
            case .body: .body(payload.withUnsafeBytes { Array($0) })
            case .heartbeat: .heartbeat
            }
        return (received, frame.channel.rawValue, frame.end)
    }

    static func text(_ frame: Received, _ channel: UInt16) -> String {
        switch frame {
        case .protocolHeader(let octets): "protocol header \(octets)"
        case .method(let method): "\(channel): \(method.dialogueText)"
        case .header(let header): "\(channel): header of \(header.bodySize) octets"
        case .body(let octets): "\(channel): body of \(octets.count) octets"
        case .heartbeat: "heartbeat"
        }
    }

    func failure(_ expected: String, _ found: String) -> ScriptFailure {
        ScriptFailure(expected: expected, found: found, dialogue: self.state.withLock { $0.dialogue.text })
    }

    /// The dialogue so far.
    package var dialogue: String { self.state.withLock { $0.dialogue.text } }
}
