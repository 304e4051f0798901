// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import FoundationEssentials
import Testing

// DispositionTests: every cell of the table that says what an ending means for whom, and that the article "Recovery" shows
// the same table.

@Suite("Disposition")
struct DispositionTests {
    private static let publish = MethodID(classID: 60, methodID: 40)
    private static let consume = MethodID(classID: 60, methodID: 20)
    private static let declare = MethodID(classID: 50, methodID: 10)

    struct Row: Sendable, CustomTestStringConvertible {
        /// As the article names it.
        var name: String
        var endings: [Ending]
        /// In the order of `Asker.allCases`.
        var cells: [Disposition]

        var testDescription: String { self.name }

        init(_ name: String, _ endings: [Ending], _ cells: Disposition...) {
            self.name = name
            self.endings = endings
            self.cells = cells
        }
    }

    static let rows = [
        // publisher, outbox, consumer, topology, RPC, first connect, later connect
        Row("link lost", [.linkLost], .resume, .resume, .resume, .retry, .resume, .retry, .retry),
        Row("no link made", [.dialFailed], .resume, .resume, .resume, .retry, .resume, .retry, .retry),
        Row(
            "protocol violation by the broker",
            [.violation],
            .resume,
            .resume,
            .resume,
            .retry,
            .resume,
            .retry,
            .retry
        ),
        Row("limit of this library", [.localLimit], .tell, .tell, .tell, .tell, .tell, .retry, .retry),
        Row(
            "`connection.close` 320, 506",
            [
                .connectionClosed(.connectionForced, "broker forced connection closure", nil),
                .connectionClosed(.resourceError, "", Self.publish),
            ],
            .resume,
            .resume,
            .resume,
            .retry,
            .resume,
            .retry,
            .retry
        ),
        Row(
            "`connection.close` that blames `basic.publish`",
            [
                .connectionClosed(.internalError, "", Self.publish),
                .connectionClosed(.notImplemented, "", Self.publish),
            ],
            .isolate,
            .isolate,
            .resume,
            .retry,
            .isolate,
            .retry,
            .retry
        ),
        Row(
            "`connection.close` 503, 530, 540 that blames `basic.consume`",
            [.connectionClosed(.notAllowed, "", Self.consume), .connectionClosed(.notImplemented, "", Self.consume)],
            .resume,
            .resume,
            .isolate,
            .retry,
            .resume,
            .retry,
            .retry
        ),
        Row(
            "`connection.close` 541 that blames `basic.consume`",
            [.connectionClosed(.internalError, "noproc", Self.consume)],
            .resume,
            .resume,
            .retry,
            .retry,
            .resume,
            .retry,
            .retry
        ),
        Row(
            "`connection.close` 503, 530, 540 that blames a declaration, 541 of a feature that was dropped",
            [
                .connectionClosed(.commandInvalid, "unknown exchange type 'x'", MethodID(classID: 40, methodID: 10)),
                .connectionClosed(.internalError, "Feature `transient_nonexcl_queues` is deprecated.", Self.declare),
            ],
            .resume,
            .resume,
            .resume,
            .end,
            .resume,
            .retry,
            .retry
        ),
        Row(
            "`connection.close` 541 that blames a declaration",
            [.connectionClosed(.internalError, "", Self.declare)],
            .resume,
            .resume,
            .resume,
            .retry,
            .resume,
            .retry,
            .retry
        ),
        Row(
            "`channel.close` that blames `basic.publish`",
            [
                .channelClosed(.notFound, "no exchange 'x' in vhost '/'", Self.publish),
                .channelClosed(.preconditionFailed, "invalid expiration 'x'", Self.publish),
            ],
            .isolate,
            .isolate,
            .tell,
            .tell,
            .isolate,
            .retry,
            .retry
        ),
        Row(
            "`channel.close` 404: missing",
            [.channelClosed(.notFound, "no queue 'x' in vhost '/'", Self.consume)],
            .resume,
            .resume,
            .tell,
            .tell,
            .resume,
            .retry,
            .retry
        ),
        Row(
            "`channel.close` 404: a node or leader is away",
            [.channelClosed(.notFound, "home node of durable queue 'x' is down or inaccessible", Self.consume)],
            .resume,
            .resume,
            .retry,
            .retry,
            .resume,
            .retry,
            .retry
        ),
        Row(
            "`channel.close` 405: locked",
            [.channelClosed(.resourceLocked, "cannot obtain exclusive access to locked queue", Self.declare)],
            .resume,
            .resume,
            .retry,
            .retry,
            .resume,
            .retry,
            .retry
        ),
        Row(
            "`channel.close` 403: no permission",
            [.channelClosed(.accessRefused, "read access to queue 'x' in vhost '/' refused", Self.consume)],
            .resume,
            .resume,
            .retry,
            .tell,
            .resume,
            .retry,
            .retry
        ),
        Row(
            "`channel.close` 403: in exclusive use",
            [.channelClosed(.accessRefused, "queue 'x' in vhost '/' in exclusive use", Self.consume)],
            .resume,
            .resume,
            .retry,
            .retry,
            .resume,
            .retry,
            .retry
        ),
        Row(
            "`channel.close` 406",
            [.channelClosed(.preconditionFailed, "inequivalent arg 'durable'", Self.declare)],
            .resume,
            .resume,
            .tell,
            .tell,
            .resume,
            .retry,
            .retry
        ),
        Row(
            "`basic.cancel`",
            [.consumerCancelled],
            .resume,
            .resume,
            .resume,
            .retry,
            .resume,
            .retry,
            .retry
        ),
        Row(
            "login refused: 403, 530",
            [
                .loginRefused(.accessRefused, "Login was refused using authentication mechanism PLAIN."),
                .loginRefused(.notAllowed, "vhost x not found"),
            ],
            .retry,
            .retry,
            .retry,
            .retry,
            .retry,
            .end,
            .retry
        ),
        Row(
            "login refused: connection limit, virtual host is down",
            [
                .loginRefused(.notAllowed, "access to vhost '/' refused for user 'u': connection limit (1) is reached"),
                .loginRefused(.notAllowed, "connection refused for user 'u': user connection limit (1) is reached"),
                .loginRefused(.notAllowed, "connection refused: node connection limit (1) is reached"),
                .loginRefused(.notAllowed, "access to vhost '/' refused for user 'u': vhost '/' is down"),
            ],
            .retry,
            .retry,
            .retry,
            .retry,
            .retry,
            .retry,
            .retry
        ),
        Row(
            "link dropped during the login",
            [.loginRefused(nil, "")],
            .retry,
            .retry,
            .retry,
            .retry,
            .retry,
            .retry,
            .retry
        ),
        Row("deadline passed", [.timedOut], .tell, .tell, .retry, .retry, .tell, .retry, .retry),
        Row("unusable option or argument", [.unusable], .tell, .tell, .tell, .tell, .tell, .end, .end),
        Row("closed or cancelled by the application", [.ended], .tell, .tell, .tell, .tell, .tell, .tell, .tell),
    ]

    @Test("Each ending has the same consequence for an asker, whatever its text", arguments: rows)
    func cells(_ row: Row) {
        for ending in row.endings {
            for (asker, cell) in zip(Asker.allCases, row.cells) {
                #expect(ending.disposition(for: asker) == cell, "\(ending) for \(asker)")
            }
        }
        #expect(row.cells.count == Asker.allCases.count)
    }

    @Test("The article shows the same table")
    func article() throws {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let page = try Data(contentsOf: root.appending(path: "Sources/AMQP091/AMQP091.docc/Recovery.md"))
        let lines = String(decoding: page, as: UTF8.self).split(separator: "\n")
        for row in Self.rows {
            let line = "| \(row.name) | " + row.cells.map(\.rawValue).joined(separator: " | ") + " |"
            #expect(lines.contains { $0 == line }, "missing: \(line)")
        }
        let header = "| what ended | publisher | outbox | consumer | topology | RPC | first connect | later connect |"
        let start = try #require(lines.firstIndex { $0 == header })
        #expect(lines[(start + 2)...].prefix { $0.hasPrefix("|") }.count == Self.rows.count)
    }
}
