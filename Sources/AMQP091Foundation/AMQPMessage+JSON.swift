// SPDX-License-Identifier: Apache-2.0
public import AMQP091
public import FoundationEssentials

// JSON bodies: encodes values into messages with a JSON content type, and decodes deliveries after checking
// it. A separate module, because it links FoundationEssentials.

extension AMQPMessage {
    /// Creates a message whose body is this value in JSON, with content type `application/json`.
    ///
    /// - Parameters:
    ///   - value: The value to encode.
    ///   - properties: The properties; an existing content type is kept.
    ///   - encoder: The encoder.
    /// - Throws: ``AMQPCodingError/encoding(_:)`` if the value cannot be encoded.
    public init(
        json value: some Encodable,
        properties: BasicProperties = BasicProperties(),
        encoder: JSONEncoder = JSONEncoder()
    ) throws(AMQPCodingError) {
        let data: Data
        do {
            data = try encoder.encode(value)
        } catch {
            throw .encoding(error)
        }
        var properties = properties
        if properties.contentType == nil { properties.contentType = "application/json" }
        self.init(AMQPBody([UInt8](data)), properties: properties)
    }
}

extension AMQPDelivery {
    /// Decodes the JSON body.
    ///
    /// The content type must be `application/json` or end with `+json`, in UTF-8.
    ///
    /// - Parameters:
    ///   - type: The type to decode; inferred by default.
    ///   - decoder: The decoder.
    ///   - acceptsMissingContentType: True to treat a message without a content type as JSON.
    /// - Returns: The decoded value.
    /// - Throws: ``AMQPCodingError``; the delivery can still be settled.
    public func decode<Value: Decodable>(
        _ type: Value.Type = Value.self,
        using decoder: JSONDecoder = JSONDecoder(),
        acceptsMissingContentType: Bool = false
    ) throws(AMQPCodingError) -> Value {
        let properties: BasicProperties
        do throws(AMQPError) {
            properties = try self.properties()
        } catch {
            throw .decoding(error)
        }
        switch properties.contentType {
        case let contentType?:
            guard Self.isJSON(contentType) else { throw .contentType(contentType) }
        case nil:
            guard acceptsMissingContentType else { throw .contentType(nil) }
        }
        if let encoding = properties.contentEncoding, !["", "utf-8", "identity"].contains(encoding.lowercased()) {
            throw .contentEncoding(encoding)
        }
        do {
            return try self.body.bytes.withUnsafeBytes { try decoder.decode(type, from: Data($0)) }
        } catch {
            throw .decoding(error)
        }
    }

    /// Returns true for a JSON content type whose character set, if any, is UTF-8.
    static func isJSON(_ contentType: String) -> Bool {
        let parts = contentType.lowercased().split(separator: ";").map { part in
            String(part.filter { $0 != " " && $0 != "\t" && $0 != "\"" })
        }
        guard let type = parts.first, type == "application/json" || type.hasSuffix("+json") else { return false }
        return parts.dropFirst().allSatisfy { !$0.hasPrefix("charset=") || $0 == "charset=utf-8" }
    }
}
