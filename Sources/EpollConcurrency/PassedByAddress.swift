// SPDX-License-Identifier: Apache-2.0
import Synchronization

// PassedByAddress: a field that makes the compiler pass the struct around it by address. It passes other structs field
// by field, and for a large one copies all of it to the stack at each call that borrows it: for the state of a channel
// over 1 KiB, once per settlement (Swift 6.3).

/// A stored property that makes the compiler pass its struct by address instead of copying it field by field.
package struct PassedByAddress: ~Copyable, Sendable {
    /// Never read: atomics have an address for life, and so has what contains them.
    private let address = Atomic<UInt8>(0)

    package init() {}
}
