// SPDX-License-Identifier: Apache-2.0
import AMQP091Testing
import AMQP091Wire

// Shared helpers of the cases. Names are new in every run, because one of the brokers outlives it.

enum Conformance {
    static func uniqueName() -> String { "conformance-\(String(UInt64.random(in: .min ... .max), radix: 36))" }

    /// Deletes what a case may have left behind.
    static func cleanUp(_ client: ScriptedClient, _ names: [String]) async {
        guard (try? await client.call(.channelOpen(.init()), on: 9)) != nil else { return }
        for name in names {
            guard (try? await client.call(.queueDelete(.init(queue: name)), on: 9)) != nil,
                (try? await client.call(.exchangeDelete(.init(exchange: name)), on: 9)) != nil
            else { return }
        }
    }
}
