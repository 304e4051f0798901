// SPDX-License-Identifier: Apache-2.0

// BasicProperties: the fourteen properties of a message (AMQP 0-9-1 §1.8.3), one pointer wide.
// Copy on write: the values live in a box that is nil while no property is set, so that a message without properties
// costs one nil check. Not here: the rest of the content header (ContentHeader).

/// The properties of a message.
@frozen
public struct BasicProperties: Hashable, Sendable {
    @usableFromInline var box: Box?

    /// No properties.
    @inlinable
    public init() { self.box = nil }

    /// The properties that are not nil.
    public init(
        contentType: String? = nil,
        contentEncoding: String? = nil,
        headers: FieldTable? = nil,
        deliveryMode: UInt8? = nil,
        priority: UInt8? = nil,
        correlationID: String? = nil,
        replyTo: String? = nil,
        expiration: String? = nil,
        messageID: String? = nil,
        timestamp: UInt64? = nil,
        type: String? = nil,
        userID: String? = nil,
        appID: String? = nil,
        clusterID: String? = nil
    ) {
        self.init(
            Values(
                contentType: contentType,
                contentEncoding: contentEncoding,
                headers: headers,
                deliveryMode: deliveryMode,
                priority: priority,
                correlationID: correlationID,
                replyTo: replyTo,
                expiration: expiration,
                messageID: messageID,
                timestamp: timestamp,
                type: type,
                userID: userID,
                appID: appID,
                clusterID: clusterID
            )
        )
    }

    /// True if no property is set.
    @inlinable public var isEmpty: Bool { self.box == nil }

    /// Compares all properties.
    public static func == (left: BasicProperties, right: BasicProperties) -> Bool {
        left.box === right.box || left.values == right.values
    }

    /// Hashes all properties.
    public func hash(into hasher: inout Hasher) { hasher.combine(self.values) }

    /// Storage shared by copies; Sendable, because it is changed only while uniquely referenced.
    @usableFromInline
    final class Box: @unchecked Sendable {
        var values: Values
        init(_ values: Values) { self.values = values }
    }

    struct Values: Hashable, Sendable {
        var contentType: String?
        var contentEncoding: String?
        var headers: FieldTable?
        var deliveryMode: UInt8?
        var priority: UInt8?
        var correlationID: String?
        var replyTo: String?
        var expiration: String?
        var messageID: String?
        var timestamp: UInt64?
        var type: String?
        var userID: String?
        var appID: String?
        var clusterID: String?
        /// Octets of short strings that are not UTF-8, as received; the properties hold their texts.
        var octets: [TextProperty: [UInt8]] = [:]

        /// The text of a property was replaced.
        mutating func forget(_ property: TextProperty) {
            if !self.octets.isEmpty { self.octets[property] = nil }
        }
    }

    var values: Values { self.box?.values ?? Values() }

    /// Creates properties from these values.
    init(_ values: Values) { self.box = values.flags == 0 ? nil : Box(values) }

    /// Stores the octets of a property whose text is set.
    mutating func keep(_ octets: [UInt8], of property: TextProperty) {
        self.update(removing: false) { $0.octets[property] = octets }
    }

    /// Changes one value, in place if the box is not shared, and removes an empty box.
    private mutating func update(removing: Bool, _ change: (inout Values) -> Void) {
        if isKnownUniquelyReferenced(&self.box), let box = self.box {
            change(&box.values)
        } else {
            guard !(self.isEmpty && removing) else { return }
            var values = self.values
            change(&values)
            self.box = Box(values)
        }
        if removing, self.values.flags == 0 { self.box = nil }
    }
}

extension BasicProperties {
    /// MIME type of the body.
    public var contentType: String? {
        get { self.box?.values.contentType }
        set {
            self.update(removing: newValue == nil) {
                $0.contentType = newValue
                $0.forget(.contentType)
            }
        }
    }

    /// MIME encoding of the body.
    public var contentEncoding: String? {
        get { self.box?.values.contentEncoding }
        set {
            self.update(removing: newValue == nil) {
                $0.contentEncoding = newValue
                $0.forget(.contentEncoding)
            }
        }
    }

    /// Headers; a headers exchange matches them.
    public var headers: FieldTable? {
        get { self.box?.values.headers }
        set { self.update(removing: newValue == nil) { $0.headers = newValue } }
    }

    /// Delivery mode: 1 transient, 2 persistent; other numbers are kept as received.
    public var deliveryMode: UInt8? {
        get { self.box?.values.deliveryMode }
        set { self.update(removing: newValue == nil) { $0.deliveryMode = newValue } }
    }

    /// Priority, 0...255; a queue's `x-max-priority` caps it.
    public var priority: UInt8? {
        get { self.box?.values.priority }
        set { self.update(removing: newValue == nil) { $0.priority = newValue } }
    }

    /// Correlation ID, which a reply repeats so that the requester can match it.
    public var correlationID: String? {
        get { self.box?.values.correlationID }
        set {
            self.update(removing: newValue == nil) {
                $0.correlationID = newValue
                $0.forget(.correlationID)
            }
        }
    }

    /// The queue to reply to.
    public var replyTo: String? {
        get { self.box?.values.replyTo }
        set {
            self.update(removing: newValue == nil) {
                $0.replyTo = newValue
                $0.forget(.replyTo)
            }
        }
    }

    /// Time to live in milliseconds, as a decimal number in text.
    public var expiration: String? {
        get { self.box?.values.expiration }
        set {
            self.update(removing: newValue == nil) {
                $0.expiration = newValue
                $0.forget(.expiration)
            }
        }
    }

    /// The application's name for the message.
    public var messageID: String? {
        get { self.box?.values.messageID }
        set {
            self.update(removing: newValue == nil) {
                $0.messageID = newValue
                $0.forget(.messageID)
            }
        }
    }

    /// Time of the message in seconds since 1970.
    public var timestamp: UInt64? {
        get { self.box?.values.timestamp }
        set { self.update(removing: newValue == nil) { $0.timestamp = newValue } }
    }

    /// The application's name for the kind of message.
    public var type: String? {
        get { self.box?.values.type }
        set {
            self.update(removing: newValue == nil) {
                $0.type = newValue
                $0.forget(.type)
            }
        }
    }

    /// The publishing user; RabbitMQ compares it with the login.
    public var userID: String? {
        get { self.box?.values.userID }
        set {
            self.update(removing: newValue == nil) {
                $0.userID = newValue
                $0.forget(.userID)
            }
        }
    }

    /// The publishing application.
    public var appID: String? {
        get { self.box?.values.appID }
        set {
            self.update(removing: newValue == nil) {
                $0.appID = newValue
                $0.forget(.appID)
            }
        }
    }

    /// Deprecated by the specification.
    public var clusterID: String? {
        get { self.box?.values.clusterID }
        set {
            self.update(removing: newValue == nil) {
                $0.clusterID = newValue
                $0.forget(.clusterID)
            }
        }
    }
}
