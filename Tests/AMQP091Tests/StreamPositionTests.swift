// SPDX-License-Identifier: Apache-2.0
@testable import AMQP091
import Testing

@Suite("Stream position")
struct StreamPositionTests {
    @Test("A consumer resumes after the last delivery given, or at the first one skipped")
    func resumes() {
        var position = StreamPosition(isStream: nil)
        position.gave(10)
        #expect(position.next == 11)
        position.skipped(14)
        // The rest of its consumer comes again too, whatever is read of it.
        position.gave(20)
        position.skipped(21)
        #expect(position.next == 14)
        position.resumed()
        position.gave(14)
        #expect(position.next == 15)
        #expect(!position.isCertain)
    }

    @Test("A queue whose deliveries carry no offset is no stream, and its position is not watched any more")
    func queue() {
        var position = StreamPosition(isStream: nil)
        #expect(position.isWatching)
        position.gave(nil)
        #expect(!position.isWatching)
        position.gave(7)
        position.skipped(8)
        #expect(position.next == nil)
    }

    @Test("A stream resumes where it began until something was given")
    func start() {
        var position = StreamPosition(isStream: true)
        position.begins(at: 300)
        position.begins(at: 400)
        position.resumed()
        #expect(position.next == 300)
        position.skipped(301)
        #expect(position.next == 301)
    }

    @Test("A stream that was made again is read from its first message, a queue is not")
    func madeAgain() {
        var position = StreamPosition(isStream: true)
        position.gave(10)
        position.skipped(12)
        position.restart()
        #expect(position.next == 0)
        position.gave(0)
        #expect(position.next == 1)
        var queue = StreamPosition(isStream: nil)
        queue.gave(nil)
        queue.restart()
        #expect(queue.next == nil)
    }

    @Test("A queue that refuses an offset is no stream, whatever its messages carry")
    func forwarded() {
        var position = StreamPosition(isStream: nil)
        position.gave(5)
        position.isNoStream()
        #expect(position.next == nil)
        #expect(!position.isWatching)
    }
}
