// SPDX-License-Identifier: Apache-2.0

// FuzzInput: octets as decisions. Numbers read behind the end are 0, so that a cut input is an input too.

/// Octets that are taken one by one.
struct FuzzInput {
    private let octets: [UInt8]
    private var offset = 0

    init(_ octets: [UInt8]) { self.octets = octets }

    var isAtEnd: Bool { self.offset >= self.octets.count }

    mutating func octet() -> UInt8 {
        guard !self.isAtEnd else { return 0 }
        defer { self.offset += 1 }
        return self.octets[self.offset]
    }

    /// A number below `bound`, from one octet.
    mutating func below(_ bound: Int) -> Int { Int(self.octet()) % max(1, bound) }

    mutating func number(octets count: Int) -> UInt64 {
        (0..<count).reduce(0) { number, _ in number << 8 | UInt64(self.octet()) }
    }

    mutating func take(_ count: Int) -> [UInt8] {
        let end = min(self.octets.count, self.offset + max(0, count))
        defer { self.offset = end }
        return Array(self.octets[self.offset..<end])
    }

    mutating func rest() -> [UInt8] { self.take(self.octets.count) }
}
