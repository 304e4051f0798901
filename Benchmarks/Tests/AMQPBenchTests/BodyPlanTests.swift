// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import AMQPBench

@Suite("Bodies")
struct BodyPlanTests {
    private func plan(_ low: Int, _ high: Int, verify: Bool = false) -> BodyPlan {
        var options = RunOptions.example
        options.size = low
        options.sizeMax = high > low ? high : nil
        options.verify = verify
        return BodyPlan(options, seed: 7)
    }

    @Test("Sizes lie between their bounds, spread evenly, and the mean is theirs")
    func sizes() {
        let plan = self.plan(64, 4096)
        let sizes = (0..<1024 as Range<UInt64>).map { plan.size(of: $0) }
        #expect(sizes.allSatisfy { 64...4096 ~= $0 })
        #expect(Set(sizes).count > 500)
        #expect(abs(plan.meanSize - 2080) < 150)
        #expect(plan.meanSize == Double(sizes.reduce(0, +)) / 1024)
        #expect(plan.size(of: 1024) == sizes[0])
        #expect(self.plan(256, 256).meanSize == 256)
    }

    @Test("A body that was written is right, at every size", arguments: [40, 41, 47, 48, 255, 4096])
    func right(_ size: Int) {
        let plan = self.plan(size, size, verify: true)
        var body = plan.octets
        let written = plan.write(MessageHeader(sequence: 9, stream: 1, run: 7), to: &body)
        #expect(written == size)
        let isRight = Checksum.isRight(body.span.bytes)
        #expect(isRight)
        let header = MessageHeader(body.span.bytes)
        #expect(header?.sequence == 9)
    }

    @Test("Every octet counts, and so does the length")
    func wrong() {
        let plan = self.plan(100, 100, verify: true)
        var body = plan.octets
        _ = plan.write(MessageHeader(sequence: 9, stream: 1, run: 7), to: &body)
        for place in body.indices {
            body[place] ^= 1
            let isRight = Checksum.isRight(body.span.bytes)
            #expect(!isRight, "octet \(place)")
            body[place] ^= 1
        }
        let isShorterRight = Checksum.isRight(body.span.bytes.extracting(first: 99))
        #expect(!isShorterRight)
        body.swapAt(60, 70)
        let isSwappedRight = Checksum.isRight(body.span.bytes)
        #expect(!isSwappedRight || body[60] == body[70])
    }

    @Test("A body without room for a checksum is not right", arguments: [0, 31, 39])
    func short(_ size: Int) {
        let isRight = Checksum.isRight([UInt8](repeating: 0, count: size).span.bytes)
        #expect(!isRight)
    }
}
