// SPDX-License-Identifier: Apache-2.0

// WireError: what made octets unreadable, or a value unwritable.
// Not here: what a peer may say when (the protocol's machines judge that), and the public error.
// `replyCode` is what to close the connection with when a peer's octets were at fault (AMQP 0-9-1 §1.2).

/// What made octets unreadable, or a value impossible to write.
package struct WireError: Error, Hashable, Sendable {
    /// What went wrong.
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
        /// The peer answered with a protocol header: it speaks another version. All eight octets.
        case protocolMismatch([UInt8])
        /// A method nobody defined.
        case unknownMethod(classID: UInt16, methodID: UInt16)
        /// A content header of a class other than basic, or with a weight.
        case invalidContentHeader(classID: UInt16, weight: UInt16)
        /// A field of a table or array with an unknown type letter.
        case unknownFieldType(UInt8)
        /// Tables and arrays nested deeper than ``FieldTable/maximumDepth``.
        case nestingTooDeep
        /// A short string of more than 255 octets.
        case shortStringTooLong(count: Int)
        /// Octets left over behind the last argument or property.
        case trailingOctets(count: Int)
        /// A value the wire has no form for, or the broker would fail on.
        case unencodable(String)
    }

    /// What went wrong.
    package var kind: Kind

    package init(_ kind: Kind) { self.kind = kind }

    /// The code to close the connection with.
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
