// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

// Message: one message in one allocation, shared by all its queues: the octets that every delivery copies to the wire.
//
//   exchange short string, routing key short string | property flags and values | body
//
// Unsafe: the three counts in the head add up to the octets after it, written once before the message is shared.

struct MessageHead {
    /// Size of exchange and routing key with their lengths, in octets.
    var routeCount: Int
    /// Size of property flags and values in octets.
    var propertiesCount: Int
    /// Size of the body in octets.
    var bodyCount: Int
    /// The `priority` property.
    var priority: UInt8?
    /// The publisher's time to live in milliseconds, or nil.
    var timeToLive: UInt64?
    /// True for a dead letter, whose `x-death` the broker wrote.
    var hasDied = false
}

final class Message: ManagedBuffer<MessageHead, UInt8> {
    static func make(
        route: UnsafeRawBufferPointer,
        properties: UnsafeRawBufferPointer,
        body: UnsafeRawBufferPointer,
        priority: UInt8?,
        timeToLive: UInt64?
    ) -> Message {
        let count = route.count + properties.count + body.count
        let buffer = Message.create(minimumCapacity: count) { _ in
            MessageHead(
                routeCount: route.count,
                propertiesCount: properties.count,
                bodyCount: body.count,
                priority: priority,
                timeToLive: timeToLive
            )
        }
        buffer.withUnsafeMutablePointerToElements { elements in
            var cursor = UnsafeMutableRawPointer(elements)
            for part in [route, properties, body] where !part.isEmpty {
                guard let base = part.baseAddress else { continue }
                cursor.copyMemory(from: base, byteCount: part.count)
                cursor += part.count
            }
        }
        return unsafeDowncast(buffer, to: Message.self)
    }

    /// Its size for the memory limit, in octets.
    var size: Int { 96 + self.header.routeCount + self.header.propertiesCount + self.header.bodyCount }

    private func part<Result>(_ start: Int, _ count: Int, _ body: (UnsafeRawBufferPointer) throws -> Result) rethrows
        -> Result
    {
        try self.withUnsafeMutablePointerToElements {
            try body(UnsafeRawBufferPointer(start: $0 + start, count: count))
        }
    }

    func withRoute<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        try self.part(0, self.header.routeCount, body)
    }

    func withProperties<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        try self.part(self.header.routeCount, self.header.propertiesCount, body)
    }

    func withBody<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        try self.part(self.header.routeCount + self.header.propertiesCount, self.header.bodyCount, body)
    }

    /// Exchange and routing key, decoded.
    var route: (exchange: String, routingKey: String) {
        self.withRoute { octets in
            let first = Int(octets[0])
            return (
                String(decoding: octets[1..<(1 + first)], as: UTF8.self),
                String(decoding: octets[(first + 2)...], as: UTF8.self)
            )
        }
    }

    /// The properties, decoded; they were checked at the publish.
    var properties: BasicProperties {
        self.withProperties { octets in
            var reader = WireReader(RawSpan(_unsafeBytes: octets))
            return (try? BasicProperties(from: &reader)) ?? BasicProperties()
        }
    }

    /// Returns the message with other headers.
    func with(headers: FieldTable) -> Message? {
        var properties = self.properties
        properties.headers = headers
        let (exchange, routingKey) = self.route
        let timeToLive = self.header.timeToLive
        let changed = self.with(
            exchange: exchange,
            routingKey: routingKey,
            properties: properties,
            timeToLive: timeToLive
        )
        changed?.header.hasDied = self.header.hasDied
        return changed
    }

    /// Returns the body with another route or other properties.
    func with(exchange: String, routingKey: String, properties: BasicProperties, timeToLive: UInt64?) -> Message? {
        var buffer = WireBuffer()
        do throws(WireError) {
            try buffer.appendShortString(exchange)
            try buffer.appendShortString(routingKey)
            let routeCount = buffer.count
            try properties.encode(into: &buffer)
            return buffer.withUnsafeBytes { octets in
                self.withBody { body in
                    Message.make(
                        route: UnsafeRawBufferPointer(rebasing: octets[..<routeCount]),
                        properties: UnsafeRawBufferPointer(rebasing: octets[routeCount...]),
                        body: body,
                        priority: properties.priority,
                        timeToLive: timeToLive
                    )
                }
            }
        } catch {
            return nil
        }
    }
}
