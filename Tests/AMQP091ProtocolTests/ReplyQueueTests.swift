// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import Testing

// ReplyQueue and ChannelNumbers, as dialogues.

@Suite("Reply queue")
struct ReplyQueueTests {
    static let declareOk = MethodID(classID: 50, methodID: 11)
    static let purgeOk = MethodID(classID: 50, methodID: 31)
    static let getOk = MethodID(classID: 60, methodID: 71)
    static let getEmpty = MethodID(classID: 60, methodID: 72)

    @Test("Replies resume their waiters in the order of the requests")
    func order() {
        var queue = ReplyQueue<Int>()
        _ = queue.append(expecting: Self.declareOk, waiter: 1)
        _ = queue.append(expecting: Self.purgeOk, waiter: 2)
        #expect(queue.received(Self.purgeOk) == .unexpected)
        #expect(queue.received(Self.declareOk) == .resume(1))
        #expect(queue.received(Self.purgeOk) == .resume(2))
        #expect(queue.received(Self.purgeOk) == .unexpected)
    }

    @Test("A get is answered by either reply")
    func alternatives() {
        var queue = ReplyQueue<Int>()
        for waiter in 1...2 { _ = queue.append(expecting: Self.getOk, or: Self.getEmpty, waiter: waiter) }
        #expect(queue.received(Self.getEmpty) == .resume(1))
        #expect(queue.received(Self.getOk) == .resume(2))
    }

    @Test("A cancelled waiter leaves a blank that swallows its reply")
    func cancel() {
        var queue = ReplyQueue<Int>()
        let first = queue.append(expecting: Self.declareOk, waiter: 1)
        let second = queue.append(expecting: Self.declareOk, waiter: 2)
        #expect(queue.cancel(first) == 1)
        #expect(queue.cancel(first) == nil)
        #expect(queue.received(Self.declareOk) == .swallow)
        #expect(queue.received(Self.declareOk) == .resume(2))
        #expect(queue.cancel(second) == nil)
        #expect(queue.cancel(first) == nil)
    }

    @Test("Removing all answers the waiters that are left, and old tickets stay void")
    func removeAll() {
        var queue = ReplyQueue<Int>()
        let first = queue.append(expecting: Self.declareOk, waiter: 1)
        let second = queue.append(expecting: Self.declareOk, waiter: 2)
        _ = queue.cancel(first)
        #expect(queue.removeAll() == [2])
        #expect(queue.isEmpty)
        let third = queue.append(expecting: Self.declareOk, waiter: 3)
        #expect(queue.cancel(second) == nil)
        #expect(queue.cancel(third) == 3)
    }
}
