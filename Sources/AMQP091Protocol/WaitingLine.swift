// SPDX-License-Identifier: Apache-2.0
private import DequeModule

// WaitingLine: a FIFO queue of waiters, each of which may leave from the middle (cancelled or timed out).
// An abandoned place stays blank until the places around it are removed or blanks outnumber the rest, so that n waiters
// that all leave cost n log n, and memory stays proportional to the number of waiters.
// Pure: no socket, clock, task or lock.

/// A FIFO queue whose waiters may leave before their turn.
package struct WaitingLine<Element> {
    /// Identifies a place, to leave it.
    package struct Ticket: Hashable, Sendable { fileprivate let number: UInt64 }

    fileprivate struct Place {
        let number: UInt64
        var element: Element?
    }

    private var places = Deque<Place>()
    private var next: UInt64 = 0
    /// Number of waiters.
    package private(set) var count = 0

    package init() {}

    package var isEmpty: Bool { self.count == 0 }
    /// Number of places, blanks included.
    var placeCount: Int { self.places.count }

    /// Number of blanks before the line is compacted.
    private static var spareBlanks: Int { 32 }

    /// Appends a waiter.
    package mutating func append(_ element: Element) -> Ticket {
        defer { self.next += 1 }
        self.places.append(Place(number: self.next, element: element))
        self.count += 1
        return Ticket(number: self.next)
    }

    /// Removes the first waiter.
    package mutating func popFirst() -> Element? {
        while let place = self.places.popFirst() {
            guard let element = place.element else { continue }
            self.count -= 1
            return element
        }
        return nil
    }

    /// Removes a waiter that leaves; nil if its turn came before.
    package mutating func remove(_ ticket: Ticket) -> Element? {
        guard let index = self.index(of: ticket), let element = self.places[index].element.take() else { return nil }
        self.count -= 1
        self.dropBlanks()
        return element
    }

    /// Removes the first waiter that meets a condition.
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

    /// Removes all waiters that meet a condition, in order.
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

    /// Finds a place; places are ordered by number.
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
