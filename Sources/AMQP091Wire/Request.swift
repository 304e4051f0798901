// SPDX-License-Identifier: Apache-2.0

// Request: a method with exactly one reply method, as the generated files state. `basic.get` has two and is not one.

/// A method that has one reply.
package protocol Request: Sendable {
    /// The type of the reply.
    associatedtype Reply: Sendable
    /// The method ID of the reply.
    static var replyID: MethodID { get }
    /// The request as a `Method`.
    var method: Method { get }
    /// Returns the reply; nil for any other method.
    static func reply(_ method: Method) -> Reply?
}
