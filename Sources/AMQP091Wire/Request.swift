// SPDX-License-Identifier: Apache-2.0

// Request: a method that has one method as its reply. The generated files say which; `basic.get` has two, and is none.

/// A method and the reply it is answered with.
package protocol Request: Sendable {
    /// What answers it.
    associatedtype Reply: Sendable
    /// The number of the method that answers it.
    static var replyID: MethodID { get }
    /// The request among all methods.
    var method: Method { get }
    /// The reply among all methods; nil for any other.
    static func reply(_ method: Method) -> Reply?
}
