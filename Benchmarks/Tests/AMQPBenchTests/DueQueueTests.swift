// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import AMQPBench

@Suite("Due queue")
struct DueQueueTests {
    @Test("What is due next comes first, whatever the order it was added in")
    func order() {
        var generator = SystemRandomNumberGenerator()
        let times = (0..<1000).map { _ in UInt64.random(in: 0..<500, using: &generator) }
        var queue = DueQueue()
        for (index, time) in times.enumerated() { queue.insert(index, at: time) }
        var taken: [(due: UInt64, index: Int)] = []
        while let first = queue.first {
            taken.append(first)
            queue.removeFirst()
        }
        #expect(taken.map(\.due) == times.sorted())
        #expect(taken.map(\.index).sorted() == Array(0..<1000))
        #expect(taken.allSatisfy { times[$0.index] == $0.due })
    }

    @Test("The first can be given another time, and its turn comes again")
    func again() {
        var queue = DueQueue()
        for index in 0..<3 { queue.insert(index, at: UInt64(10 + index)) }
        queue.moveFirst(to: 20)
        #expect(queue.first?.index == 1)
        queue.moveFirst(to: 11)
        #expect(queue.first?.index == 1)
        queue.removeFirst()
        #expect(queue.first?.index == 2)
        queue.removeFirst()
        #expect(queue.first?.index == 0)
        queue.removeFirst()
        #expect(queue.first == nil)
        queue.removeFirst()
        queue.moveFirst(to: 1)
        #expect(queue.first == nil)
    }

    @Test(
        "Producers of one schedule, taken from the queue, publish evenly: no interval has a burst",
        arguments: [1, 1000]
    )
    func evenly(_ producers: Int) {
        let rate = 20_000.0
        var schedules = (0..<producers).map {
            Schedule(rate: rate, share: $0, of: producers, start: 0, isOpenLoop: true)
        }
        var queue = DueQueue()
        for (index, schedule) in schedules.enumerated() { queue.insert(index, at: schedule.due) }
        var perTenMilliseconds = [Int](repeating: 0, count: 100)
        while let (due, index) = queue.first, due < 1_000_000_000 {
            perTenMilliseconds[Int(due / 10_000_000)] += 1
            schedules[index].advance(now: due)
            queue.moveFirst(to: schedules[index].due)
        }
        #expect(perTenMilliseconds.reduce(0, +) == 20_000)
        #expect(perTenMilliseconds.allSatisfy { 199...201 ~= $0 })
    }
}
