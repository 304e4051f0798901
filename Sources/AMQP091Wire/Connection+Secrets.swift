// SPDX-License-Identifier: Apache-2.0

// Descriptions and mirrors of the three methods that carry credentials, without the credentials: logs and dumps of
// them show no secret.

extension Connection.StartOk: CustomStringConvertible {
    package var description: String { "StartOk(mechanism: \(self.mechanism), locale: \(self.locale))" }
}

extension Connection.SecureOk: CustomStringConvertible {
    package var description: String { "SecureOk()" }
}

extension Connection.UpdateSecret: CustomStringConvertible {
    package var description: String { "UpdateSecret(reason: \(self.reason))" }
}

extension Connection.StartOk: CustomReflectable {
    package var customMirror: Mirror {
        Mirror(self, children: ["mechanism": self.mechanism, "locale": self.locale], displayStyle: .struct)
    }
}

extension Connection.SecureOk: CustomReflectable {
    package var customMirror: Mirror { Mirror(self, children: [:], displayStyle: .struct) }
}

extension Connection.UpdateSecret: CustomReflectable {
    package var customMirror: Mirror { Mirror(self, children: ["reason": self.reason], displayStyle: .struct) }
}
