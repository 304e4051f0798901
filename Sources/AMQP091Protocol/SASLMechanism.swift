// SPDX-License-Identifier: Apache-2.0
internal import AMQP091Wire

// SASLMechanism: how a client says who it is in connection.start-ok, with what it sends.

package enum SASLMechanism: Hashable, Sendable {
    /// RFC 4616.
    case plain(user: String, password: String)
    /// AMQP's own: the same as a field table without its length.
    case amqplain(user: String, password: String)
    /// RFC 4422, appendix A: the certificate says it.
    case external

    package var name: String {
        switch self {
        case .plain: "PLAIN"
        case .amqplain: "AMQPLAIN"
        case .external: "EXTERNAL"
        }
    }

    var response: [UInt8] {
        switch self {
        case .plain(let user, let password): [0] + Array(user.utf8) + [0] + Array(password.utf8)
        case .amqplain(let user, let password):
            Self.entry("LOGIN", user) + Self.entry("PASSWORD", password)
        case .external: []
        }
    }

    /// One entry of a field table: a short string, and a long string behind its type letter.
    private static func entry(_ name: String, _ value: String) -> [UInt8] {
        let count = UInt32(clamping: value.utf8.count)
        let length = (0..<4).map { UInt8(truncatingIfNeeded: count >> (24 - 8 * $0)) }
        return [UInt8(name.utf8.count)] + Array(name.utf8) + [UInt8(ascii: "S")] + length + Array(value.utf8)
    }
}
