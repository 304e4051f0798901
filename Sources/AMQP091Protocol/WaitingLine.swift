// SPDX-License-Identifier: Apache-2.0
private import DequeModule

// WaitingLine: first come, first served, and anyone may leave from the middle: a waiter that was cancelled or timed out.
// A place that was left is a blank until the places around it are gone or blanks outnumber the rest, so that n waiters
// that all give up cost n log n, and the line stays in proportion to those who wait.
// Pure: no socket, clock, task or lock.

/// A queue of waiters, each of which may leave before its turn.
package struct WaitingLine<Element> {
    /// Names a place, so that it can be given up.
    package struct Ticket: Hashable, Sendable { fileprivate let number: UInt64 }

    fileprivate struct Place {
        let number: UInt64
        var element: Element?
    }

    private var places = Deque<Place>()
    private var next: UInt64 = 0
    /// Waiters in the line.
    package private(set) var count = 0

    package init() {}

    package var isEmpty: Bool { self.count == 0 }
    /// Places kept, blanks among them.
    var placeCount: Int { self.places.count }

    /// Blanks kept before the line is compacted.
    private static var spareBlanks: Int { 32 }

    /// Takes the last place.
    package mutating func append(_ element: Element) -> Ticket {
        defer { self.next += 1 }
        self.places.append(Place(number: self.next, element: element))
        self.count += 1
        return Ticket(number: self.next)
    }

    /// Takes out the waiter that came first.
    package mutating func popFirst() -> Element? {
        while let place = self.places.popFirst() {
            guard let element = place.element else { continue }
            self.count -= 1
            return element
        }
        return nil
    }

    /// Takes out a waiter that gives up; nil when its turn came before.
    package mutating func remove(_ ticket: Ticket) -> Element? {
        guard let index = self.index(of: ticket), let element = self.places[index].element.take() else { return nil }
        self.count -= 1
        self.dropBlanks()
        return element
    }

    /// Takes out the first waiter that meets a condition, leaving the others where they are.
    package mutating func removeFirst(where isWanted: (Element) -> Bool) -> Element? {
        for index in self.places.indices {
            guard let element = self.places[index].element, isWanted(element) else { continue }
            self.places[index].element = nil
            self.count -= 1
            self.dropBlanks()
            return element
        }
        return nil
    }

    /// Takes out every waiter that meets a condition, first come first.
    package mutating func removeAll(where isWanted: (Element) -> Bool = { _ in true }) -> [Element] {
        guard self.count > 0 else { return [] }
        var taken: [Element] = []
        for index in self.places.indices {
            guard let element = self.places[index].element, isWanted(element) else { continue }
            self.places[index].element = nil
            taken.append(element)
        }
        self.count -= taken.count
        self.dropBlanks()
        return taken
    }

    /// Places are in the order of their numbers.
    private func index(of ticket: Ticket) -> Int? {
        var low = 0
        var high = self.places.count
        while low < high {
            let middle = low + (high - low) / 2
            if self.places[middle].number < ticket.number { low = middle + 1 } else { high = middle }
        }
        guard low < self.places.count, self.places[low].number == ticket.number else { return nil }
        return low
    }

    private mutating func dropBlanks() {
        while let first = self.places.first, first.element == nil { self.places.removeFirst() }
        while let last = self.places.last, last.element == nil { self.places.removeLast() }
        guard self.places.count - self.count > self.count + Self.spareBlanks else { return }
        self.places.removeAll { $0.element == nil }
    }
}

extension WaitingLine: Sendable where Element: Sendable {}
extension WaitingLine.Place: Sendable where Element: Sendable {}
