// SPDX-License-Identifier: Apache-2.0

/// Objects by their identity, in the order in which they were added: the same order in every run.
package struct OrderedObjects<Element> {
    private var entries: [ObjectIdentifier: (order: Int, element: Element)] = [:]
    private var count = 0

    package init() {}

    package var isEmpty: Bool { self.entries.isEmpty }

    /// All of them, the oldest first.
    package var elements: [Element] { self.entries.values.sorted { $0.order < $1.order }.map(\.element) }

    /// Adds an object that is not there yet.
    package mutating func add(_ element: Element) {
        let key = ObjectIdentifier(element as AnyObject)
        guard self.entries[key] == nil else { return }
        self.count += 1
        self.entries[key] = (self.count, element)
    }

    package mutating func remove(_ element: Element) { self.entries[ObjectIdentifier(element as AnyObject)] = nil }
}

extension OrderedObjects: Sendable where Element: Sendable {}
