// SPDX-License-Identifier: Apache-2.0

// SimulationTrace: what has happened in a simulation: the last lines as text, and a digest of everything, octets of the
// streams included. Equal digests mean equal runs.

package struct SimulationTrace: Sendable {
    /// Lines that are kept.
    private static let limit = 400

    private var lines: [String] = []
    private var first = 0
    /// FNV-1a of every decision, time and octet.
    package private(set) var digest: UInt64 = 0xcbf2_9ce4_8422_2325

    package init() {}

    /// Adds a number to the digest.
    package mutating func mix(_ number: UInt64) {
        self.digest = (self.digest ^ number) &* 0x0000_0100_0000_01b3
        self.digest ^= self.digest >> 29
    }

    package mutating func mix(_ octets: some Sequence<UInt8>) {
        for octet in octets { self.digest = (self.digest ^ UInt64(octet)) &* 0x0000_0100_0000_01b3 }
    }

    /// Adds a line.
    package mutating func note(_ line: String, at time: Duration) {
        self.mix(line.utf8)
        let text = "\(Self.text(time))  \(line)"
        if self.lines.count < Self.limit {
            self.lines.append(text)
        } else {
            self.lines[self.first] = text
            self.first = (self.first + 1) % Self.limit
        }
    }

    /// The last lines, the oldest first.
    package var text: [String] { Array(self.lines[self.first...] + self.lines[..<self.first]) }

    private static func text(_ time: Duration) -> String {
        let (seconds, attoseconds) = time.components
        let micros = String(attoseconds / 1_000_000_000_000)
        return "\(seconds).\(String(repeating: "0", count: 6 - micros.count))\(micros)"
    }
}
