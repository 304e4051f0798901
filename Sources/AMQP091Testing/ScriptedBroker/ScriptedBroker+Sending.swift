// SPDX-License-Identifier: Apache-2.0
package import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// Sending and faults of a ScriptedBroker. Nothing here waits: octets are queued in order, and so are
// ends of the link, so that a script reads from top to bottom.

extension ScriptedBroker {
    /// Sends a method.
    package func send(_ method: Method, on channel: UInt16 = 0) throws {
        self.enqueue(try Self.octets(of: method, on: channel), "\(channel): \(method.dialogueText)")
    }

    /// Sends a method with its content, in body frames of at most the negotiated size.
    package func send(
        _ method: Method,
        on channel: UInt16,
        properties: BasicProperties = BasicProperties(),
        body: [UInt8]
    ) throws {
        let maximum = self.state.withLock { $0.frameMaximum }
        let octets = try Self.octets(of: method, properties: properties, body: body, on: channel, frameMaximum: maximum)
        self.enqueue(octets, "\(channel): \(method.dialogueText) with \(body.count) octets")
    }

    /// Sends a delivery.
    package func deliver(
        _ body: String,
        tag: UInt64,
        consumer: String,
        redelivered: Bool = false,
        routingKey: String = "key",
        on channel: UInt16 = 1
    ) throws {
        let deliver = Basic.Deliver(
            consumerTag: consumer,
            deliveryTag: DeliveryTag(tag),
            redelivered: redelivered,
            exchange: "",
            routingKey: routingKey
        )
        try self.send(.basicDeliver(deliver), on: channel, body: Array(body.utf8))
    }

    /// Confirms publishes.
    package func ack(_ tag: UInt64, multiple: Bool = false, on channel: UInt16 = 1) throws {
        try self.send(.basicAck(.init(deliveryTag: DeliveryTag(tag), multiple: multiple)), on: channel)
    }

    /// Closes a channel, blaming a method.
    package func closeChannel(
        _ code: ReplyCode,
        _ text: String,
        method: MethodID = MethodID(classID: 0, methodID: 0),
        on channel: UInt16 = 1
    ) throws {
        let close = Channel.Close(
            replyCode: code,
            replyText: text,
            classID: method.classID,
            methodID: method.methodID
        )
        try self.send(.channelClose(close), on: channel)
    }

    /// Sends a heartbeat.
    package func sendHeartbeat() { self.enqueue([8, 0, 0, 0, 0, 0, 0, 0xCE], "heartbeat") }

    /// Sends raw octets.
    package func sendRaw(_ octets: [UInt8]) { self.enqueue(octets, "raw \(octets.prefix(32))") }

    /// Sends part of a method's frame: the first `count` octets.
    package func sendBeginning(of method: Method, on channel: UInt16, count: Int) throws {
        let octets = try Self.octets(of: method, on: channel)
        self.enqueue(Array(octets.prefix(count)), "\(channel): \(count) octets of \(method.dialogueText)")
    }

    // MARK: how octets leave

    /// Runs `body` and sends all its octets in one write.
    package func coalescing(_ body: () throws -> Void) rethrows {
        self.state.withLock { $0.held = $0.held ?? [] }
        defer {
            if let held = self.state.withLock({ $0.held.take() }), !held.isEmpty { self.write(held) }
        }
        try body()
    }

    /// Limits each read of the client to this many octets; nil removes the limit.
    ///
    /// The next piece is sent after the client has read the one before.
    package func splitWrites(every octets: Int?) {
        self.state.withLock { $0.pieceSize = octets.map { max(1, $0) } }
    }

    /// Sends a method with its content in two pieces, split after `count` octets, which the client reads one by one.
    package func send(_ octets: [UInt8], cutAfter count: Int, _ text: String) {
        self.state.withLock { $0.dialogue.broker("\(text), cut after \(count)") }
        let pieces = [Array(octets.prefix(count)), Array(octets.dropFirst(count))].filter { !$0.isEmpty }
        self.link.send(pieces.map { .octets($0) }, drained: true)
    }

    /// Stops reading, so that the client's socket fills up.
    package func stopReading() { self.link.setPaused(true) }

    /// Resumes reading.
    package func resumeReading() { self.link.setPaused(false) }

    /// Half-closes after the queued octets, and keeps reading.
    package func finish() {
        self.state.withLock { $0.dialogue.broker("(end)") }
        self.link.send([.finish], drained: false)
    }

    /// Drops the link after the queued octets.
    package func drop() {
        self.state.withLock { $0.dialogue.broker("(drops the link)") }
        self.link.send([.close], drained: false)
    }

    private func enqueue(_ octets: [UInt8], _ text: String) {
        let isHeld = self.state.withLock { state in
            state.dialogue.broker(text)
            guard state.held != nil else { return false }
            state.held?.append(contentsOf: octets)
            return true
        }
        if !isHeld { self.write(octets) }
    }

    private func write(_ octets: [UInt8]) {
        guard let size = self.state.withLock({ $0.pieceSize }) else {
            return self.link.send([.octets(octets)], drained: false)
        }
        let pieces = stride(from: 0, to: octets.count, by: size).map {
            ScriptedLink.Item.octets(Array(octets[$0..<min($0 + size, octets.count)]))
        }
        self.link.send(pieces, drained: true)
    }

    // MARK: octets

    /// Returns the octets of a method's frame.
    package static func octets(of method: Method, on channel: UInt16) throws -> [UInt8] {
        var buffer = WireBuffer()
        try method.encodeFrame(channel: ChannelNumber(channel), into: &buffer)
        return buffer.withUnsafeBytes { Array($0) }
    }

    /// Returns the octets of a method with its content.
    package static func octets(
        of method: Method,
        properties: BasicProperties = BasicProperties(),
        body: [UInt8],
        on channel: UInt16,
        frameMaximum: Int = 131_072
    ) throws -> [UInt8] {
        var buffer = WireBuffer()
        try method.encodeFrame(channel: ChannelNumber(channel), into: &buffer)
        let header = ContentHeader(bodySize: UInt64(body.count), properties: properties)
        try header.encodeFrame(channel: ChannelNumber(channel), into: &buffer)
        body.withUnsafeBytes {
            buffer.appendBodyFrames(channel: channel, body: $0, maximumPayload: frameMaximum - Frame.overhead)
        }
        return buffer.withUnsafeBytes { Array($0) }
    }
}
