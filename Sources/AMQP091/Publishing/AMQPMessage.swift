// SPDX-License-Identifier: Apache-2.0
public import AMQP091Wire

// AMQPMessage, AMQPBody, AMQPDestination: what is published, and where to.
// Not here: what is delivered (AMQPDelivery).

/// A message to publish: body and properties.
public struct AMQPMessage: Hashable, Sendable {
    /// The body.
    public var body: AMQPBody
    /// The properties; none by default.
    public var properties: BasicProperties

    /// A message of these octets.
    public init(_ body: AMQPBody, properties: BasicProperties = BasicProperties()) {
        self.body = body
        self.properties = properties
    }

    /// A message of this text in UTF-8.
    public init(_ text: String, properties: BasicProperties = BasicProperties()) {
        self.init(AMQPBody(text), properties: properties)
    }
}

extension AMQPMessage: ExpressibleByStringInterpolation {
    /// A message of this text in UTF-8.
    public init(stringLiteral value: String) { self.init(value) }
}

/// The octets of a message, owned.
@frozen
public struct AMQPBody: Hashable, Sendable {
    @usableFromInline let octets: [UInt8]

    /// A body of these octets; not copied.
    @inlinable
    public init(_ octets: [UInt8]) { self.octets = octets }

    /// A body of this text in UTF-8.
    public init(_ text: String) { self.octets = Array(text.utf8) }

    /// How many octets.
    @inlinable public var count: Int { self.octets.count }

    /// The octets, borrowed.
    @inlinable public var bytes: RawSpan {
        @_lifetime(borrow self)
        get { self.octets.span.bytes }
    }

    /// The octets as an array.
    public var array: [UInt8] { self.octets }

    /// The octets as text; what is not UTF-8 is replaced.
    public var string: String { String(decoding: self.octets, as: UTF8.self) }
}

extension AMQPBody: ExpressibleByArrayLiteral, ExpressibleByStringLiteral {
    /// A body of these octets.
    public init(arrayLiteral elements: UInt8...) { self.init(elements) }
    /// A body of this text in UTF-8.
    public init(stringLiteral value: String) { self.init(value) }
}

/// Where a message is published to: an exchange and a routing key.
@frozen
public struct AMQPDestination: Hashable, Sendable {
    /// The exchange; empty for the default exchange.
    ///
    /// At most 255 octets.
    public var exchange: String
    /// The routing key, at most 255 octets; U+FFFD stands for what is not UTF-8.
    public var routingKey: String { didSet { self.octets = nil } }
    /// The routing key, if it is not UTF-8.
    @usableFromInline var octets: [UInt8]?

    /// An exchange with a routing key.
    @inlinable
    public init(exchange: String, routingKey: String) {
        self.exchange = exchange
        self.routingKey = routingKey
        self.octets = nil
    }

    /// An exchange with a routing key of any octets, at most 255.
    public init(exchange: String, routingKeyOctets: [UInt8]) {
        self.exchange = exchange
        if let text = String(validating: routingKeyOctets, as: UTF8.self) {
            self.routingKey = text
            self.octets = nil
        } else {
            self.routingKey = String(decoding: routingKeyOctets, as: UTF8.self)
            self.octets = routingKeyOctets
        }
    }

    /// The routing key as it goes over the wire.
    public var routingKeyOctets: [UInt8] { self.octets ?? Array(self.routingKey.utf8) }

    /// An exchange with a routing key.
    @inlinable
    public static func exchange(_ exchange: String, routingKey: String = "") -> AMQPDestination {
        AMQPDestination(exchange: exchange, routingKey: routingKey)
    }

    /// One queue, by way of the default exchange.
    @inlinable
    public static func queue(_ name: String) -> AMQPDestination { AMQPDestination(exchange: "", routingKey: name) }
}
