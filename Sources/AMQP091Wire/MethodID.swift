// SPDX-License-Identifier: Apache-2.0

// MethodID: the pair of numbers that names a method on the wire (AMQP 0-9-1 §4.2.4).
// Any pair is valid, also an unknown one; the names come from Generated/Method.swift.

/// A method's class and number, such as `basic.publish` (60, 40).
@frozen
public struct MethodID: Hashable, Sendable {
    /// The class: 10 connection, 20 channel, 40 exchange, 50 queue, 60 basic, 85 confirm, 90 tx.
    public var classID: UInt16
    /// The method within its class.
    public var methodID: UInt16

    /// Creates a method ID, known or unknown.
    @inlinable
    public init(classID: UInt16, methodID: UInt16) {
        self.classID = classID
        self.methodID = methodID
    }
}

extension MethodID: CustomStringConvertible {
    /// The name and the numbers, such as "basic.publish (60, 40)"; the numbers only for an unknown method.
    public var description: String {
        guard let name = self.name else { return "(\(self.classID), \(self.methodID))" }
        return "\(name) (\(self.classID), \(self.methodID))"
    }
}
