// SPDX-License-Identifier: Apache-2.0

// StormRandom: a seeded generator for each task of a storm. Their interleaving is the machine's, so a seed
// repeats the calls of each task and not the order among them.

/// SplitMix64 for one task of a storm.
struct StormRandom: RandomNumberGenerator, Sendable {
    private var state: UInt64

    init(seed: UInt64, task: Int = 0) { self.state = seed &* 0x9E37_79B9 &+ UInt64(task) &* 0xBF58_476D &+ 1 }

    mutating func next() -> UInt64 {
        self.state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = self.state
        mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
        return mixed ^ mixed >> 31
    }

    /// True once in so many.
    mutating func isOne(in count: Int) -> Bool { Int.random(in: 0..<count, using: &self) == 0 }
}
