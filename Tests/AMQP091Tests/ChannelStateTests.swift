// SPDX-License-Identifier: Apache-2.0
@testable import AMQP091
import AMQP091Protocol
import AMQP091Wire
import Testing

// ChannelStateTests: whether a channel may send, and what it says when it may not.

@Suite("Channel state")
struct ChannelStateTests {
    struct Row: CustomTestStringConvertible {
        let testDescription: String
        var hasChannelFailed = false
        var isChannelClosing = false
        var hasConnectionFailed = false
        var isConnectionClosing = false
        /// The error of a call; nil when it may send.
        let code: AMQPError.Code?
    }

    static let rows: [Row] = [
        Row(testDescription: "open", code: nil),
        Row(testDescription: "the channel has ended", hasChannelFailed: true, code: .channelClosed),
        Row(testDescription: "the channel's close was sent", isChannelClosing: true, code: .channelClosed),
        Row(testDescription: "the connection has ended", hasConnectionFailed: true, code: .connectionClosed),
        Row(testDescription: "the connection's close was sent", isConnectionClosing: true, code: .connectionClosed),
        Row(
            testDescription: "the channel ended before the connection",
            hasChannelFailed: true,
            hasConnectionFailed: true,
            code: .channelClosed
        ),
        Row(
            testDescription: "both are being closed",
            isChannelClosing: true,
            isConnectionClosing: true,
            code: .connectionClosed
        ),
    ]

    @Test("A channel sends while neither it nor its connection has ended or is being closed", arguments: rows)
    func maySend(_ row: Row) {
        var connection = ConnectionState(writeBufferSize: 100)
        var channel = ChannelState(ChannelNumber(rawValue: 1))
        _ = channel.withMachine { machine in
            _ = machine.open(1, context: ChannelRequest(purpose: .plain))
            return machine.received(.channelOpenOk(.init()))
        }
        if row.isChannelClosing { _ = channel.close(2, &connection) }
        if row.hasChannelFailed { channel.failure = AMQPError(.channelClosed, "ended", scope: .channel) }
        if row.hasConnectionFailed { connection.failure = AMQPError(.connectionClosed, "lost", scope: .connection) }
        connection.isClosing = row.isConnectionClosing
        let maySend = channel.maySend(connection)
        #expect(maySend == (row.code == nil))
        var error: AMQPError?
        do throws(AMQPError) { try channel.requireOpen(connection) } catch let refusal { error = refusal }
        #expect(error?.code == row.code)
        // Nothing was sent, whatever the cause.
        #expect(error?.isSafeToRetry != false)
    }
}
