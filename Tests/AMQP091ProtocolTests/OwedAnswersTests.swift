// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import Testing

@Suite("Answers owed during a commit")
struct OwedAnswersTests {
    @Test("channel.flow that is toggled a thousand times is answered once, with the last value")
    func flow() {
        var owed = OwedAnswers()
        for number in 0..<1001 { owed.receivedFlow(active: !number.isMultiple(of: 2)) }
        #expect(owed.takeAll() == [.channelFlowOk(.init(active: false))])
        #expect(owed.takeAll() == [])
    }

    @Test("Each consumer that the broker cancels is cancelled once, in order, after channel.flow-ok")
    func cancels() {
        var owed = OwedAnswers()
        for tag in ["b", "a", "b", "b"] { owed.cancelledByBroker(tag) }
        owed.receivedFlow(active: true)
        #expect(
            owed.takeAll() == [
                .channelFlowOk(.init(active: true)), .basicCancel(.init(consumerTag: "b", noWait: true)),
                .basicCancel(.init(consumerTag: "a", noWait: true)),
            ]
        )
    }
}
