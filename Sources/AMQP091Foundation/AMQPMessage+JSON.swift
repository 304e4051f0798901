// SPDX-License-Identifier: Apache-2.0
public import AMQP091
public import FoundationEssentials

// JSON bodies: values into messages, which say so in their content type, and deliveries into values, which are asked
// for it first. A module of its own, because it links FoundationEssentials.

extension AMQPMessage {
    /// A message whose body is this value in JSON, with content type `application/json`.
    ///
    /// - Parameters:
    ///   - value: The value.
    ///   - properties: The properties; a content type among them is kept.
    ///   - encoder: Writes the value.
    /// - Throws: ``AMQPCodingError/encoding(_:)`` when the value cannot be written.
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
    /// The value in the JSON body.
    ///
    /// The message has to say that it is JSON: `application/json`, or a type that ends with `+json`, in UTF-8.
    ///
    /// - Parameters:
    ///   - type: What to read; what the context asks for by default.
    ///   - decoder: Reads the value.
    ///   - acceptsMissingContentType: Whether a message that does not say what it is passes for JSON.
    /// - Returns: The value.
    /// - Throws: ``AMQPCodingError``; the delivery can be settled all the same.
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

    /// Whether a content type is JSON, in UTF-8 if it names a character set.
    static func isJSON(_ contentType: String) -> Bool {
        let parts = contentType.lowercased().split(separator: ";").map { part in
            String(part.filter { $0 != " " && $0 != "\t" && $0 != "\"" })
        }
        guard let type = parts.first, type == "application/json" || type.hasSuffix("+json") else { return false }
        return parts.dropFirst().allSatisfy { !$0.hasPrefix("charset=") || $0 == "charset=utf-8" }
    }
}
