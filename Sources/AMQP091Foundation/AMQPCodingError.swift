// SPDX-License-Identifier: Apache-2.0

// AMQPCodingError: errors of decoding and encoding bodies. It never shows the body.

/// An error of decoding a body or encoding a value.
public enum AMQPCodingError: Error, CustomStringConvertible {
    /// The content type of the message is not JSON.
    ///
    /// Nil if the message has no content type and one is required.
    case contentType(String?)
    /// The message has a content encoding, such as compression, which is not decoded here.
    case contentEncoding(String)
    /// The decoder's error.
    case decoding(any Error)
    /// The encoder's error.
    case encoding(any Error)

    /// A description in one sentence.
    public var description: String {
        switch self {
        case .contentType(let type?): "the content type of the message is \(type), not JSON"
        case .contentType(nil): "the message has no content type"
        case .contentEncoding(let encoding): "the content encoding of the message is \(encoding)"
        case .decoding(let error): "the body cannot be decoded: \(Self.place(error))"
        case .encoding(let error): "the value cannot be encoded: \(error)"
        }
    }

    /// The position of the error in the body, never its content.
    private static func place(_ error: any Error) -> String {
        func path(_ context: DecodingError.Context) -> String {
            let path = context.codingPath.map { $0.intValue.map { "[\($0)]" } ?? $0.stringValue }
            return path.isEmpty ? "at its top" : "at \(path.joined(separator: "."))"
        }
        return switch error as? DecodingError {
        case .keyNotFound(let key, let context): "there is no \(key.stringValue) \(path(context))"
        case .typeMismatch(let type, let context): "there is no \(type) \(path(context))"
        case .valueNotFound(let type, let context): "there is null for a \(type) \(path(context))"
        case .dataCorrupted(let context): context.codingPath.isEmpty ? "it is not JSON" : "bad data \(path(context))"
        default: "\(type(of: error))"
        }
    }
}
