// SPDX-License-Identifier: Apache-2.0
internal import AMQP091Wire
package import SecretValues

// SASLMechanism: the SASL mechanisms of connection.start-ok and their responses.

package enum SASLMechanism: Hashable, Sendable {
    /// PLAIN, RFC 4616: user name and password.
    case plain(user: String, password: Secret<String>)
    /// AMQPLAIN: user name and password as a field table without its length.
    case amqplain(user: String, password: Secret<String>)
    /// EXTERNAL, RFC 4422, appendix A: the client certificate.
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
        case .plain(let user, let password): [0] + Array(user.utf8) + [0] + Array(password.wrappedValue.utf8)
        case .amqplain(let user, let password):
            Self.entry("LOGIN", user) + Self.entry("PASSWORD", password.wrappedValue)
        case .external: []
        }
    }

    /// Encodes one entry of a field table: a short string, a type letter and a long string.
    private static func entry(_ name: String, _ value: String) -> [UInt8] {
        let count = UInt32(clamping: value.utf8.count)
        let length = (0..<4).map { UInt8(truncatingIfNeeded: count >> (24 - 8 * $0)) }
        return [UInt8(name.utf8.count)] + Array(name.utf8) + [UInt8(ascii: "S")] + length + Array(value.utf8)
    }
}
