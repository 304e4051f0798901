// SPDX-License-Identifier: Apache-2.0

// AMQPCodingError: why a body was not made into a value, or a value not into a body. It never shows the body.

/// Why a body could not be read as a value, or a value not be written as a body.
public enum AMQPCodingError: Error, CustomStringConvertible {
    /// The message says it is something else than JSON.
    ///
    /// Nil where it says nothing and that is not enough.
    case contentType(String?)
    /// The message says its body is compressed or encoded otherwise, which is not undone here.
    case contentEncoding(String)
    /// The body is not such a value: what the decoder said.
    case decoding(any Error)
    /// The value cannot be written: what the encoder said.
    case encoding(any Error)

    /// One sentence.
    public var description: String {
        switch self {
        case .contentType(let type?): "the content type of the message is \(type), not JSON"
        case .contentType(nil): "the message has no content type"
        case .contentEncoding(let encoding): "the content encoding of the message is \(encoding)"
        case .decoding(let error): "the body cannot be decoded: \(Self.place(error))"
        case .encoding(let error): "the value cannot be encoded: \(error)"
        }
    }

    /// Where in the body the trouble is, and never what stands there.
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
