// SPDX-License-Identifier: Apache-2.0
public import AMQP091Wire

// AMQPMessage, AMQPBody, AMQPDestination: a message to publish and its destination.
// Not here: deliveries (AMQPDelivery).

/// A message to publish: body and properties.
public struct AMQPMessage: Hashable, Sendable {
    /// The body.
    public var body: AMQPBody
    /// The properties; none by default.
    public var properties: BasicProperties

    /// Creates a message of these octets.
    public init(_ body: AMQPBody, properties: BasicProperties = BasicProperties()) {
        self.body = body
        self.properties = properties
    }

    /// Creates a message of this text in UTF-8.
    public init(_ text: String, properties: BasicProperties = BasicProperties()) {
        self.init(AMQPBody(text), properties: properties)
    }
}

extension AMQPMessage: ExpressibleByStringInterpolation {
    /// Creates a message of this text in UTF-8.
    public init(stringLiteral value: String) { self.init(value) }
}

/// The octets of a message, owned.
@frozen
public struct AMQPBody: Hashable, Sendable {
    @usableFromInline let octets: [UInt8]

    /// Creates a body of these octets without a copy.
    @inlinable
    public init(_ octets: [UInt8]) { self.octets = octets }

    /// Creates a body of this text in UTF-8.
    public init(_ text: String) { self.octets = Array(text.utf8) }

    /// The size in octets.
    @inlinable public var count: Int { self.octets.count }

    /// The octets, borrowed.
    @inlinable public var bytes: RawSpan {
        @_lifetime(borrow self)
        get { self.octets.span.bytes }
    }

    /// The octets as an array.
    public var array: [UInt8] { self.octets }

    /// The octets as text, with invalid UTF-8 replaced.
    public var string: String { String(decoding: self.octets, as: UTF8.self) }
}

extension AMQPBody: ExpressibleByArrayLiteral, ExpressibleByStringLiteral {
    /// Creates a body of these octets.
    public init(arrayLiteral elements: UInt8...) { self.init(elements) }
    /// Creates a body of this text in UTF-8.
    public init(stringLiteral value: String) { self.init(value) }
}

/// The destination of a publish: an exchange and a routing key.
@frozen
public struct AMQPDestination: Hashable, Sendable {
    /// The exchange; empty for the default exchange.
    ///
    /// At most 255 octets.
    public var exchange: String
    /// The routing key, at most 255 octets; invalid UTF-8 is shown as U+FFFD.
    @inlinable
    public var routingKey: String {
        get { self.key.text }
        set { self.key = .text(newValue) }
    }
    @usableFromInline var key: RoutingKey

    /// Creates a destination of an exchange and a routing key.
    @inlinable
    public init(exchange: String, routingKey: String) {
        self.exchange = exchange
        self.key = .text(routingKey)
    }

    /// Creates a destination of an exchange and a routing key of arbitrary octets, at most 255.
    public init(exchange: String, routingKeyOctets: [UInt8]) {
        self.exchange = exchange
        self.key = String(validating: routingKeyOctets, as: UTF8.self).map { .text($0) } ?? .octets(routingKeyOctets)
    }

    /// The octets of the routing key.
    public var routingKeyOctets: [UInt8] {
        switch self.key {
        case .text(let text): Array(text.utf8)
        case .octets(let octets): octets
        }
    }

    /// Creates a destination of an exchange and a routing key.
    @inlinable
    public static func exchange(_ exchange: String, routingKey: String = "") -> AMQPDestination {
        AMQPDestination(exchange: exchange, routingKey: routingKey)
    }

    /// Returns the destination of one queue through the default exchange.
    @inlinable
    public static func queue(_ name: String) -> AMQPDestination { AMQPDestination(exchange: "", routingKey: name) }
}
