// SPDX-License-Identifier: Apache-2.0
package import AMQP091Wire

// ReturnedProperties: compares the properties of a basic.return with those of publishes.
// The broker may change them: RabbitMQ 4 sorts headers and drops repeated names, every version
// removes BCC, and plugins set the timestamp, the user or other headers. So equal means equal in value, and if
// none is equal the most similar publish matches, but never one with another message ID.

/// The properties of a returned message.
package struct ReturnedProperties: Sendable {
    /// Nil if they could not be decoded; then they match anything.
    private let properties: BasicProperties?
    private let headers: [String: [FieldValue]]

    /// Creates from decoded properties; nil if decoding failed.
    package init(_ properties: BasicProperties?) {
        self.properties = properties
        self.headers = Self.byName(properties?.headers)
    }

    /// Returns the similarity to published properties.
    ///
    /// - Returns: `Int.max` if equal, nil for another message, otherwise higher for more similar properties.
    package func likeness(to published: BasicProperties) -> Int? {
        guard let properties = self.properties else { return 0 }
        // A broker that returns no properties gives no evidence.
        if properties.isEmpty { return published.isEmpty ? .max : 0 }
        guard published.messageID == properties.messageID else { return nil }
        let same = [
            published.contentType == properties.contentType, published.contentEncoding == properties.contentEncoding,
            published.deliveryMode == properties.deliveryMode, published.priority == properties.priority,
            published.correlationID == properties.correlationID, published.replyTo == properties.replyTo,
            published.expiration == properties.expiration, published.timestamp == properties.timestamp,
            published.type == properties.type, published.userID == properties.userID,
            published.appID == properties.appID, published.clusterID == properties.clusterID,
        ]
        var likeness = same.count { $0 }
        var isEqual = likeness == same.count
        let headers = published.headers == nil ? [:] : Self.byName(published.headers)
        if headers.count != self.headers.count { isEqual = false }
        for (name, values) in headers {
            // Any subset of several headers with one name may remain.
            if let returned = self.headers[name], !returned.isEmpty, returned.allSatisfy(values.contains) {
                likeness += 1
            } else {
                isEqual = false
            }
        }
        return isEqual ? .max : likeness
    }

    private static func byName(_ table: FieldTable?) -> [String: [FieldValue]] {
        guard let table else { return [:] }
        var result: [String: [FieldValue]] = [:]
        for (name, value) in table where name != "BCC" { result[name, default: []].append(Self.canonical(value)) }
        return result
    }

    /// Normalizes a value: integers of any width are equal, and tables in any order.
    private static func canonical(_ value: FieldValue) -> FieldValue {
        switch value {
        case .int8, .uint8, .int16, .uint16, .int32, .uint32: return value.integerValue.map { .int64($0) } ?? value
        case .float(let number): return .double(Double(number))
        case .bytes(let octets): return .longString(octets)
        case .array(let values): return .array(values.map(Self.canonical))
        case .table(let table):
            var seen: Set<String> = []
            let fields = table.filter { seen.insert($0.name).inserted }.sorted { $0.name < $1.name }
            return .table(FieldTable(fields.map { ($0.name, Self.canonical($0.value)) }))
        default: return value
        }
    }
}
