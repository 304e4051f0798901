// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import Testing

@Suite("Reply codes")
struct ReplyCodeTests {
    static let softCodes: [ReplyCode] = [
        .contentTooLarge, .noRoute, .noConsumers, .accessRefused, .notFound, .resourceLocked, .preconditionFailed,
    ]
    static let hardCodes: [ReplyCode] = [
        .connectionForced, .invalidPath, .frameError, .syntaxError, .commandInvalid, .channelError, .unexpectedFrame,
        .resourceError, .notAllowed, .notImplemented, .internalError,
    ]

    @Test("A soft code closes a channel", arguments: softCodes)
    func soft(_ code: ReplyCode) { #expect(code.isSoft && !code.isHard) }

    @Test("A hard code closes the connection", arguments: hardCodes)
    func hard(_ code: ReplyCode) { #expect(code.isHard && !code.isSoft) }

    @Test("Success and unknown codes are neither, and are preserved", arguments: [200, 0, 999] as [UInt16])
    func neither(_ number: UInt16) {
        let code = ReplyCode(number)
        #expect(!code.isHard && !code.isSoft)
        #expect(code.rawValue == number)
    }

    @Test("A code shows its number and name")
    func description() {
        #expect(ReplyCode.notFound.description == "404 NOT_FOUND")
        #expect(ReplyCode(999).description == "999")
    }
}
