// SPDX-License-Identifier: Apache-2.0

// Octets of the ten properties that are short strings: up to 255 octets, UTF-8 by specification, unchecked. Other
// clients send UUIDs of 16 octets as correlation and message IDs. The properties of BasicProperties are texts, in which
// invalid UTF-8 is replaced by U+FFFD; the octets are what is sent.

extension BasicProperties {
    /// A property that is a short string on the wire.
    public enum TextProperty: Hashable, Sendable, CaseIterable {
        /// MIME type of the body.
        case contentType
        /// MIME encoding of the body.
        case contentEncoding
        /// Correlation ID, which a reply repeats.
        case correlationID
        /// The queue to reply to.
        case replyTo
        /// Time to live in milliseconds, as a decimal number.
        case expiration
        /// The application's name for the message.
        case messageID
        /// The application's name for the kind of message.
        case type
        /// The publishing user.
        case userID
        /// The publishing application.
        case appID
        /// Deprecated by the specification.
        case clusterID
    }

    /// Returns the octets of a property as received, or the UTF-8 of its text.
    ///
    /// - Parameter property: The property.
    /// - Returns: At most 255 octets; nil if it is not set.
    public func octets(of property: TextProperty) -> [UInt8]? {
        guard let values = self.box?.values else { return nil }
        return values.octets[property] ?? self.text(of: property).map { Array($0.utf8) }
    }

    /// Sets a property to arbitrary octets.
    ///
    /// Its text shows invalid UTF-8 as U+FFFD; setting the text replaces the octets.
    ///
    /// - Parameters:
    ///   - octets: At most 255; more are refused when the message is published. Nil removes the property.
    ///   - property: The property.
    public mutating func setOctets(_ octets: [UInt8]?, of property: TextProperty) {
        guard let octets else { return self.setText(nil, of: property) }
        if let text = String(validating: octets, as: UTF8.self) { return self.setText(text, of: property) }
        self.setText(String(decoding: octets, as: UTF8.self), of: property)
        self.keep(octets, of: property)
    }

    /// Copies one property of other properties, octet for octet.
    ///
    /// - Parameters:
    ///   - property: The property.
    ///   - other: The source, such as the properties of a request.
    public mutating func copy(_ property: TextProperty, from other: BasicProperties) {
        self.setOctets(other.octets(of: property), of: property)
    }

    private func text(of property: TextProperty) -> String? {
        switch property {
        case .contentType: self.contentType
        case .contentEncoding: self.contentEncoding
        case .correlationID: self.correlationID
        case .replyTo: self.replyTo
        case .expiration: self.expiration
        case .messageID: self.messageID
        case .type: self.type
        case .userID: self.userID
        case .appID: self.appID
        case .clusterID: self.clusterID
        }
    }

    private mutating func setText(_ text: String?, of property: TextProperty) {
        switch property {
        case .contentType: self.contentType = text
        case .contentEncoding: self.contentEncoding = text
        case .correlationID: self.correlationID = text
        case .replyTo: self.replyTo = text
        case .expiration: self.expiration = text
        case .messageID: self.messageID = text
        case .type: self.type = text
        case .userID: self.userID = text
        case .appID: self.appID = text
        case .clusterID: self.clusterID = text
        }
    }
}
