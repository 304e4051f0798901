// SPDX-License-Identifier: Apache-2.0

// WireError: an error of decoding or encoding.
// Not here: the order of methods (the state machines check that), and the public error.
// `replyCode` is the code to close the connection with if a peer's octets were malformed (AMQP 0-9-1 §1.2).

/// An error of decoding or encoding.
package struct WireError: Error, Hashable, Sendable {
    /// The kind of error.
    package enum Kind: Hashable, Sendable {
        /// A value ends after the octets that hold it.
        case truncated
        /// A frame's payload is shorter than its type needs.
        case frameTooShort(size: Int)
        /// The octet after a frame's payload is not 0xCE.
        case malformedFrameEnd(UInt8)
        /// A frame's payload, or one to be written, is larger than allowed; both in octets of payload.
        case frameTooLarge(size: Int, limit: Int)
        /// A frame's first octet is not 1, 2, 3 or 8.
        case unknownFrameType(UInt8)
        /// A heartbeat with a payload, or on a channel other than 0.
        case invalidHeartbeat
        /// The peer replied with a protocol header, of another version; all eight octets.
        case protocolMismatch([UInt8])
        /// An unknown method.
        case unknownMethod(classID: UInt16, methodID: UInt16)
        /// A content header of a class other than basic, or with a weight.
        case invalidContentHeader(classID: UInt16, weight: UInt16)
        /// A field of a table or array with an unknown type letter.
        case unknownFieldType(UInt8)
        /// Tables and arrays nested deeper than ``FieldTable/maximumDepth``.
        case nestingTooDeep
        /// A short string of more than 255 octets.
        case shortStringTooLong(count: Int)
        /// Trailing octets after the last argument or property.
        case trailingOctets(count: Int)
        /// A value that has no encoding, or on which the broker would fail.
        case unencodable(String)
    }

    /// The kind of error.
    package var kind: Kind

    package init(_ kind: Kind) { self.kind = kind }

    /// The reply code to close the connection with.
    package var replyCode: ReplyCode {
        switch self.kind {
        case .frameTooShort, .malformedFrameEnd, .frameTooLarge, .unknownFrameType, .invalidHeartbeat,
            .protocolMismatch:
            .frameError
        case .truncated, .unknownFieldType, .nestingTooDeep, .shortStringTooLong, .trailingOctets, .unencodable:
            .syntaxError
        case .unknownMethod: .commandInvalid
        case .invalidContentHeader: .unexpectedFrame
        }
    }
}

extension WireError: CustomStringConvertible {
    package var description: String {
        switch self.kind {
        case .truncated: "a value ends after the octets that hold it"
        case .frameTooShort(let size): "a frame of \(size) octets is too short for its type"
        case .malformedFrameEnd(let octet): "a frame ends with octet \(octet), not 206"
        case .frameTooLarge(let size, let limit): "a frame payload of \(size) octets exceeds the limit of \(limit)"
        case .unknownFrameType(let type): "unknown frame type \(type)"
        case .invalidHeartbeat: "a heartbeat with a payload or on a channel other than 0"
        case .protocolMismatch(let octets):
            "the peer speaks another protocol: AMQP "
                + octets.dropFirst(4).map { String($0) }.joined(separator: "-")
        case .unknownMethod(let classID, let methodID): "unknown method (\(classID), \(methodID))"
        case .invalidContentHeader(let classID, let weight): "content header of class \(classID), weight \(weight)"
        case .unknownFieldType(let letter): "unknown field type \(letter)"
        case .nestingTooDeep: "tables nested deeper than \(FieldTable.maximumDepth)"
        case .shortStringTooLong(let count): "a short string of \(count) octets; 255 is the limit"
        case .trailingOctets(let count): "\(count) octets left over"
        case .unencodable(let reason): reason
        }
    }
}
