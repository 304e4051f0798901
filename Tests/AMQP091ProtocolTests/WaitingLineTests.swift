// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import AMQP091Protocol

@Suite("Waiting line")
struct WaitingLineTests {
    @Test("Waiters leave in order of arrival, and abandoned ones are skipped")
    func order() {
        var line = WaitingLine<Int>()
        let tickets = (0..<6).map { line.append($0) }
        #expect(line.count == 6)
        for (number, isThere) in [(0, true), (2, true), (5, true), (2, false)] {
            let element = line.remove(tickets[number])
            #expect(element == (isThere ? number : nil))
        }
        #expect(line.count == 3)
        var left: [Int] = []
        while let element = line.popFirst() { left.append(element) }
        #expect(left == [1, 3, 4])
        #expect(line.isEmpty)
        let late = line.remove(tickets[1])
        #expect(late == nil)
    }

    @Test("A ticket is valid for its own place only, also after later arrivals")
    func tickets() {
        var line = WaitingLine<Int>()
        var tickets: [WaitingLine<Int>.Ticket] = []
        for number in 0..<100 {
            tickets.append(line.append(number))
            if number % 3 == 0 { _ = line.popFirst() }
        }
        // 34 were taken from the front.
        for number in stride(from: 35, to: 100, by: 2) {
            let element = line.remove(tickets[number])
            #expect(element == number)
        }
        let rest = line.removeAll()
        #expect(rest == Array(stride(from: 34, to: 100, by: 2)))
    }

    @Test("Removing the first that meets a condition keeps the order of the others")
    func conditions() {
        var line = WaitingLine<Int>()
        for number in 1...6 { _ = line.append(number) }
        let even = line.removeFirst { $0 % 2 == 0 }
        #expect(even == 2)
        let none = line.removeFirst { $0 > 6 }
        #expect(none == nil)
        let odd = line.removeAll { $0 % 2 == 1 }
        #expect(odd == [1, 3, 5])
        let rest = line.removeAll()
        #expect(rest == [4, 6])
    }

    @Test("Twenty thousand abandoned waiters after one that stays leave no memory")
    func givingUp() {
        var line = WaitingLine<Int>()
        let first = line.append(-1)
        for round in 0..<20 {
            let tickets = (0..<1000).map { line.append(round * 1000 + $0) }
            for ticket in tickets.shuffled() { _ = line.remove(ticket) }
            #expect(line.count == 1)
            #expect(line.placeCount < 1100)
        }
        let element = line.remove(first)
        #expect(element == -1)
        #expect(line.placeCount == 0)
    }
}
