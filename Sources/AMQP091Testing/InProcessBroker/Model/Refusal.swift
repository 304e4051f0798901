// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

// Refusal: a reply code with RabbitMQ's text. The code decides whether it closes the channel or
// the connection. Texts can quote the peer; they are truncated to a short string when sent.

struct Refusal: Error {
    let code: ReplyCode
    let reason: String

    init(_ code: ReplyCode, _ reason: String) {
        self.code = code
        self.reason = reason
    }

    /// The reply text: the code's name, then the reason; above 255 octets the first 252 and three dots.
    var text: String {
        let full = "\(self.code.name ?? "ERROR") - \(self.reason)"
        guard full.utf8.count > 255 else { return full }
        var cut = ""
        var octets = 0
        for scalar in full.unicodeScalars {
            octets += UTF8.width(scalar)
            if octets > 252 { break }
            cut.unicodeScalars.append(scalar)
        }
        return cut + "..."
    }

    static func noQueue(_ name: String, _ virtualHost: String) -> Refusal {
        Refusal(.notFound, "no queue '\(name)' in vhost '\(virtualHost)'")
    }

    static func noExchange(_ name: String, _ virtualHost: String) -> Refusal {
        Refusal(.notFound, "no exchange '\(name)' in vhost '\(virtualHost)'")
    }

    static let transientQueue = Refusal(
        .internalError,
        "Feature `transient_nonexcl_queues` is deprecated.\nBy default, this feature is not permitted anymore.\nThe "
            + "feature will be removed from a future major RabbitMQ version, regardless of the configuration; actual "
            + "version to be determined.\nTo continue using this feature when it is not permitted by default, set the "
            + "following parameter in your configuration:\n"
            + "    \"deprecated_features.permit.transient_nonexcl_queues = true\""
    )

    static let defaultExchange = Refusal(.accessRefused, "operation not permitted on the default exchange")

    static func locked(_ name: String, _ virtualHost: String) -> Refusal {
        Refusal(
            .resourceLocked,
            "cannot obtain exclusive access to locked queue '\(name)' in vhost '\(virtualHost)'. It could be originally "
                + "declared on another connection or the exclusive property value does not match that of the original "
                + "declaration."
        )
    }

    static func unequal(_ key: String, _ kind: String, _ name: String, _ host: String, new: Bool, old: Bool) -> Refusal
    {
        Self.unequal(key, kind, name, host, new: "'\(new)'", old: "'\(old)'")
    }

    static func unequal(
        _ key: String,
        _ kind: String,
        _ name: String,
        _ host: String,
        new: String,
        old: String
    ) -> Refusal {
        Refusal(
            .preconditionFailed,
            "inequivalent arg '\(key)' for \(kind) '\(name)' in vhost '\(host)': received \(new) but current is \(old)"
        )
    }
}
