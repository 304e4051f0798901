// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire

// The login: who is let in, and what the others are told.

extension BehaviourCase {
    /// A client that has said who it is, and no more.
    private static func introduced(
        _ stage: Stage,
        mechanism: String = "PLAIN",
        response: [UInt8],
        capabilities: [String] = ScriptedClient.capabilities
    ) async throws -> ScriptedClient {
        let client = try await ScriptedClient.connect(stage.configuration)
        try await client.greet()
        let table = FieldTable(capabilities.map { ($0, .bool(true)) })
        try client.send(
            .connectionStartOk(
                .init(
                    clientProperties: ["capabilities": .table(table)],
                    mechanism: mechanism,
                    response: response,
                    locale: "en_US"
                )
            )
        )
        return client
    }

    /// The largest frame before `connection.tune-ok`, octets, with its header and end.
    private static func loginFrameCase(_ releases: Releases, largest: Int) -> BehaviourCase {
        BehaviourCase("a login frame has at most \(largest) octets; a larger one ends the link", releases) { stage in
            for size in [largest, largest + 1] {
                let client = try await ScriptedClient.connect(stage.configuration)
                try await client.greet()
                var properties: FieldTable = ["padding": ""]
                func octets() throws -> [UInt8] {
                    let startOk = Connection.StartOk(
                        clientProperties: properties,
                        mechanism: "PLAIN",
                        response: Array("\0guest\0guest".utf8),
                        locale: "en_US"
                    )
                    return try ScriptedBroker.octets(of: .connectionStartOk(startOk), on: 0)
                }
                properties["padding"] = .string(String(repeating: "x", count: size - (try octets().count)))
                client.sendRaw(try octets())
                if size == largest {
                    _ = try await client.expect(Connection.Tune.self)
                } else {
                    try await client.expectEnd()
                }
                client.drop()
            }
        }
    }

    static let login: [BehaviourCase] = [
        BehaviourCase("a wrong password is refused with 403 before tune") { stage in
            let client = try await Self.introduced(stage, response: Array("\0guest\0wrong".utf8))
            let close = try await client.expectClose()
            try expect(close.code, .accessRefused, "code")
            try expect(
                close.text,
                "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker "
                    + "logfile.",
                "text"
            )
        },
        BehaviourCase("a wrong password without the capability ends the link without a word") { stage in
            let response = Array("\0guest\0wrong".utf8)
            let client = try await Self.introduced(stage, response: response, capabilities: [])
            try await client.expectEnd()
        },
        BehaviourCase("an unknown virtual host is refused with 530") { stage in
            let client = try await Self.introduced(stage, response: Array("\0guest\0guest".utf8))
            let tune = try await client.expect(Connection.Tune.self)
            try client.send(
                .connectionTuneOk(.init(channelMax: tune.channelMax, frameMax: tune.frameMax, heartbeat: 0))
            )
            try client.send(.connectionOpen(.init(virtualHost: "nope")))
            let close = try await client.expectClose()
            try expect(close.code, .notAllowed, "code")
            try expect(close.text, "NOT_ALLOWED - vhost nope not found", "text")
            try expect(close.method, Connection.Open.id, "method")
        },
        BehaviourCase("AMQPLAIN lets in too") { stage in
            let table: FieldTable = ["LOGIN": "guest", "PASSWORD": "guest"]
            var buffer = WireBuffer()
            try buffer.appendTable(table)
            // Without the length before it.
            let response = buffer.withUnsafeBytes { Array($0.dropFirst(4)) }
            let client = try await Self.introduced(stage, mechanism: "AMQPLAIN", response: response)
            let tune = try await client.expect(Connection.Tune.self)
            try expect([tune.frameMax, UInt32(tune.channelMax)], [131_072, 2047], "limits")
            client.drop()
        },
        Self.loginFrameCase(.before4_1, largest: 4104),
        Self.loginFrameCase(.since4_1, largest: 8200),
        BehaviourCase("closing the connection is answered") { stage in
            let client = try await stage.another()
            let close = Connection.Close(replyCode: .success, replyText: "bye", classID: 0, methodID: 0)
            try await client.call(.connectionClose(close))
            client.drop()
        },
    ]
}
