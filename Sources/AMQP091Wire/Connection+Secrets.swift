// SPDX-License-Identifier: Apache-2.0

// The three methods that carry credentials, shown without them: what is logged or recorded names no secret.

extension Connection.StartOk: CustomStringConvertible {
    package var description: String { "StartOk(mechanism: \(self.mechanism), locale: \(self.locale))" }
}

extension Connection.SecureOk: CustomStringConvertible {
    package var description: String { "SecureOk()" }
}

extension Connection.UpdateSecret: CustomStringConvertible {
    package var description: String { "UpdateSecret(reason: \(self.reason))" }
}
