// SPDX-License-Identifier: Apache-2.0
import AMQP091
import ArgumentParser

// ExitStatus: what the tool's exit codes mean, and the errors that carry one. Wrong usage ends with ArgumentParser's 64.

/// How the tool exits.
enum ExitStatus {
    /// The run broke off: a connection was lost or the broker refused something.
    static let failed: Int32 = 1
    /// A condition of `--fail-if` holds, or a comparison found a regression.
    static let thresholdFailed: Int32 = 3
    /// Messages were lost, doubled or out of order.
    static let verificationFailed: Int32 = 4
    /// No broker could be reached or started.
    static let unavailable: Int32 = 69
    /// Ended by a signal, as shells put it: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP, 141 for a closed
    /// output.
    static func interrupted(by signal: Int32) -> Int32 { 128 + signal }
}

/// An error the tool ends with: a sentence for people, and the exit code.
struct BenchFailure: Error, CustomStringConvertible {
    var description: String
    var status: Int32
}

extension BenchFailure {
    /// No connection to the broker could be made.
    static func unavailable(_ error: AMQPError, address: String) -> BenchFailure {
        var text = "cannot use the broker at \(address): \(error)"
        if let last = text.last, !".?!)".contains(last) { text += "." }
        switch error.code {
        case .connectFailed:
            text +=
                "\nIs it running? Leave --uri out to have a broker started: the embedded one, or RabbitMQ with --broker rabbitmq."
        case .authenticationFailed:
            text += "\nGive user and password in the URI: amqp://user:password@host."
            if address.contains("guest") || !Self.isLoopback(address) {
                text += " RabbitMQ accepts the user guest from its own machine only."
            }
        case .virtualHostRefused:
            text += "\nThe virtual host comes behind the slash: amqp://host is \"/\", amqp://host/orders is \"orders\"."
        case .invalidConfiguration:
            text += "\nA URI looks like this: amqp://user:password@host:5672/vhost."
        default: break
        }
        return BenchFailure(description: text, status: ExitStatus.unavailable)
    }

    private static func isLoopback(_ address: String) -> Bool {
        address.hasPrefix("localhost") || address.hasPrefix("127.") || address.hasPrefix("[::1]")
    }
}
