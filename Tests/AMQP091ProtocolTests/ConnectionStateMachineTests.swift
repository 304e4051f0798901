// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import SecretValues
import Testing

// ConnectionStateMachine as dialogue: what the broker says, and what must follow.

@Suite("Connection state machine")
struct ConnectionStateMachineTests {
    typealias Action = ConnectionStateMachine.Action

    static let start = Method.connectionStart(
        Connection.Start(
            versionMajor: 0,
            versionMinor: 9,
            serverProperties: ["product": "RabbitMQ", "capabilities": .table(["basic.nack": .bool(true)])],
            mechanisms: Array("AMQPLAIN PLAIN".utf8),
            locales: Array("en_US".utf8)
        )
    )
    static let tune = Method.connectionTune(Connection.Tune(channelMax: 2047, frameMax: 131_072, heartbeat: 60))
    static let openOk = Method.connectionOpenOk(Connection.OpenOk())
    static let blocked = Method.connectionBlocked(Connection.Blocked(reason: "low on memory"))
    static let unblocked = Method.connectionUnblocked(Connection.Unblocked())
    static let secure = Method.connectionSecure(Connection.Secure(challenge: []))
    static let closeOk = Method.connectionCloseOk(Connection.CloseOk())
    static let close = Method.connectionClose(
        Connection.Close(replyCode: .connectionForced, replyText: "shutdown", classID: 0, methodID: 0)
    )
    static let negotiated = TuneNegotiation.Negotiated(channelMaximum: 2047, frameMaximum: 131_072, heartbeat: 10)

    static func machine(
        after methods: [Method] = [],
        mechanisms: [SASLMechanism] = [.plain(user: "guest", password: "secret")]
    ) throws -> ConnectionStateMachine {
        let tune = try TuneNegotiation(channelMaximum: 0, frameMaximum: 0, heartbeat: 10)
        var machine = ConnectionStateMachine(
            ConnectionStateMachine.Configuration(
                mechanisms: mechanisms,
                virtualHost: "/",
                clientProperties: ["product": "test"],
                tune: tune
            )
        )
        for method in methods { _ = machine.received(method) }
        return machine
    }

    static func code(_ action: Action) -> ReplyCode? {
        guard case .violation(let close) = action else { return nil }
        return close.replyCode
    }

    @Test("Start, tune and open-ok lead to an open connection")
    func login() throws {
        var machine = try Self.machine()
        guard case .sendStartOk(let startOk) = machine.received(Self.start) else {
            Issue.record("no start-ok")
            return
        }
        #expect(startOk.mechanism == "PLAIN")
        #expect(startOk.response == Array("\0guest\0secret".utf8))
        #expect(startOk.locale == "en_US")
        #expect(startOk.clientProperties["product"] == "test")
        guard case .table(let capabilities) = startOk.clientProperties["capabilities"] else {
            Issue.record("no capabilities")
            return
        }
        let names = [
            "publisher_confirms", "consumer_cancel_notify", "basic.nack", "exchange_exchange_bindings",
            "connection.blocked", "authentication_failure_close",
        ]
        for name in names { #expect(capabilities[name] == .bool(true)) }
        #expect(machine.phase == .awaitingTune)
        #expect(machine.serverHasCapability("basic.nack"))
        #expect(!machine.serverHasCapability("publisher_confirms"))
        let tuneOk = Connection.TuneOk(channelMax: 2047, frameMax: 131_072, heartbeat: 10)
        let open = Connection.Open(virtualHost: "/")
        #expect(machine.received(Self.tune) == .sendTuneOkAndOpen(tuneOk, open, Self.negotiated))
        #expect(machine.received(Self.openOk) == .opened(Self.negotiated))
        #expect(machine.phase == .open)
    }

    @Test("Blocked and unblocked are reported, and unblocked only after blocked")
    func blocking() throws {
        var machine = try Self.machine(after: [Self.start, Self.tune, Self.openOk])
        #expect(machine.received(Self.unblocked) == .ignore)
        #expect(machine.received(Self.blocked) == .blocked("low on memory"))
        #expect(machine.received(Self.unblocked) == .unblocked)
        #expect(machine.received(Self.unblocked) == .ignore)
    }

    struct OutOfOrder: CustomTestStringConvertible, Sendable {
        let before: [Method]
        let method: Method
        var testDescription: String { "\(self.method.id) after \(self.before.count) methods" }
    }

    static let outOfOrder = [
        OutOfOrder(before: [], method: tune),
        OutOfOrder(before: [], method: openOk),
        OutOfOrder(before: [], method: secure),
        OutOfOrder(before: [], method: closeOk),
        OutOfOrder(before: [start], method: start),
        OutOfOrder(before: [start], method: openOk),
        OutOfOrder(before: [start], method: blocked),
        OutOfOrder(before: [start, tune], method: start),
        OutOfOrder(before: [start, tune], method: tune),
        OutOfOrder(before: [start, tune], method: secure),
        OutOfOrder(before: [start, tune, openOk], method: start),
        OutOfOrder(before: [start, tune, openOk], method: tune),
        OutOfOrder(before: [start, tune, openOk], method: openOk),
        OutOfOrder(before: [start, tune, openOk], method: closeOk),
        OutOfOrder(before: [start, tune, openOk], method: .channelCloseOk(Channel.CloseOk())),
        OutOfOrder(
            before: [start, tune, openOk],
            method: .connectionTuneOk(.init(channelMax: 1, frameMax: 0, heartbeat: 0))
        ),
    ]

    @Test("A method out of order is answered with close 503, and then close-ok ends it", arguments: outOfOrder)
    func violations(_ row: OutOfOrder) throws {
        var machine = try Self.machine(after: row.before)
        #expect(Self.code(machine.received(row.method)) == .commandInvalid)
        #expect(machine.phase == .closing)
        #expect(machine.received(row.method) == (row.method == Self.closeOk ? .closed : .ignore))
        if row.method != Self.closeOk { #expect(machine.received(Self.closeOk) == .closed) }
        #expect(machine.received(Self.closeOk) == .ignore)
    }

    static let mechanismRows: [([SASLMechanism], String, String)] = [
        ([.external, .plain(user: "u", password: "p")], "PLAIN", "\0u\0p"),
        (
            [.amqplain(user: "u", password: "pw"), .plain(user: "u", password: "pw")], "AMQPLAIN",
            // name, 'S', four octets of length, value
            "\u{5}LOGINS\0\0\0\u{1}u\u{8}PASSWORDS\0\0\0\u{2}pw"
        ),
    ]

    @Test("The first configured mechanism that the peer offers is used", arguments: mechanismRows)
    func mechanism(_ mechanisms: [SASLMechanism], name: String, response: String) throws {
        var machine = try Self.machine(mechanisms: mechanisms)
        guard case .sendStartOk(let startOk) = machine.received(Self.start) else {
            Issue.record("no start-ok")
            return
        }
        #expect(startOk.mechanism == name)
        #expect(startOk.response == Array(response.utf8))
    }

    @Test("EXTERNAL sends an empty response")
    func external() throws {
        var machine = try Self.machine(mechanisms: [.external])
        let start = Connection.Start(
            versionMajor: 0,
            versionMinor: 9,
            serverProperties: [:],
            mechanisms: Array("PLAIN EXTERNAL".utf8),
            locales: []
        )
        guard case .sendStartOk(let startOk) = machine.received(.connectionStart(start)) else {
            Issue.record("no start-ok")
            return
        }
        #expect(startOk.mechanism == "EXTERNAL")
        #expect(startOk.response.isEmpty)
    }

    @Test("C27: a peer without PLAIN, of another version, or with secure ends the login", arguments: [false, true])
    func failures(second: Bool) throws {
        var machine = try Self.machine()
        let mechanisms = second ? "PLAINTEXT" : "EXTERNAL"
        let start = Connection.Start(
            versionMajor: 0,
            versionMinor: 9,
            serverProperties: [:],
            mechanisms: Array(mechanisms.utf8),
            locales: []
        )
        #expect(machine.received(.connectionStart(start)) == .fail(.noCommonMechanism(offered: mechanisms)))
        #expect(machine.phase == .closed)
        machine = try Self.machine()
        var other = start
        other.versionMinor = 10
        #expect(machine.received(.connectionStart(other)) == .fail(.version(major: 0, minor: 10)))
        machine = try Self.machine(after: [Self.start])
        #expect(machine.received(Self.secure) == .fail(.secureNotSupported))
        machine = try Self.machine(after: [Self.start])
        let tiny = Connection.Tune(channelMax: 0, frameMax: 4095, heartbeat: 0)
        #expect(machine.received(.connectionTune(tiny)) == .fail(.tuneRefused(.frameMaximumTooSmall(4095))))
    }

    static let prefixes = [[], [start], [start, tune], [start, tune, openOk]]

    @Test("The broker's close is answered in every state", arguments: prefixes)
    func brokerCloses(_ before: [Method]) throws {
        var machine = try Self.machine(after: before)
        let reason = ConnectionStateMachine.CloseReason(code: .connectionForced, text: "shutdown")
        #expect(machine.received(Self.close) == .sendCloseOkAndClose(reason))
        #expect(machine.phase == .closed)
        #expect(machine.received(Self.close) == .ignore)
        #expect(machine.received(Self.start) == .ignore)
        #expect(machine.close() == .alreadyClosed)
    }

    @Test(
        "Our close waits for close-ok, and a close from the broker meanwhile is answered",
        arguments: prefixes.dropFirst()
    )
    func weClose(_ before: [Method]) throws {
        var machine = try Self.machine(after: before)
        let close = Connection.Close(replyCode: .success, replyText: "bye", classID: 0, methodID: 0)
        #expect(machine.close(text: "bye") == .send(close))
        #expect(machine.close() == .wait)
        #expect(machine.received(Self.blocked) == .ignore)
        #expect(machine.received(Self.close) == .sendCloseOk)
        #expect(machine.received(Self.closeOk) == .closed)
        #expect(machine.close() == .alreadyClosed)
    }

    @Test("The method the broker blames is reported")
    func blame() throws {
        var machine = try Self.machine(after: [Self.start, Self.tune])
        let close = Connection.Close(replyCode: .notAllowed, replyText: "no vhost", classID: 10, methodID: 40)
        let reason = ConnectionStateMachine.CloseReason(
            code: .notAllowed,
            text: "no vhost",
            method: MethodID(classID: 10, methodID: 40)
        )
        #expect(machine.received(.connectionClose(close)) == .sendCloseOkAndClose(reason))
    }

    @Test("A close before start sends nothing, and a lost link ends everything")
    func early() throws {
        var machine = try Self.machine()
        #expect(machine.close() == .alreadyClosed)
        machine = try Self.machine(after: [Self.start])
        machine.linkLost()
        #expect(machine.phase == .closed)
        #expect(machine.violate(.frameError, "late") == .ignore)
    }

    @Test("A long reply text is truncated to a short string between two characters")
    func longText() throws {
        var machine = try Self.machine(after: [Self.start])
        let text = String(repeating: "ä", count: 200)
        guard case .violation(let close) = machine.violate(.frameError, text) else {
            Issue.record("no violation")
            return
        }
        #expect(close.replyText == String(repeating: "ä", count: 127))
    }
}
