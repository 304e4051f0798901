// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire

// ContentTarget: frames of one channel in any order, against a model that counts.

enum ContentTarget {
    private enum Expected: Equatable { case method, header, body(UInt64) }

    static func run(_ octets: [UInt8]) {
        var input = FuzzInput(octets)
        let limit: UInt64 = input.octet() & 1 == 0 ? .max : 1000
        var assembler = ContentAssembler(maximumBodySize: limit)
        var expected = Expected.method
        while !input.isAtEnd {
            let action: ContentAssembler.Action
            switch input.below(4) {
            case 0:
                let id = MethodID(classID: UInt16(input.octet()), methodID: UInt16(input.octet()))
                let hasContent = input.octet() & 1 == 1
                action = assembler.receivedMethod(id, carriesContent: hasContent)
                let cuts = id.classID == 20 && (id.methodID == 40 || id.methodID == 41)
                switch (expected, cuts) {
                case (.method, _):
                    promise(action == (hasContent ? .more : .complete), "a method by itself: \(action)")
                    if hasContent { expected = .header }
                case (_, true):
                    promise(action == .complete, "a close cuts a content short: \(action)")
                    expected = .method
                case (_, false): Self.expectViolation(action)
                }
            case 1:
                // The announced size is read from the octets of the header, as the client does.
                let count = input.octet()
                let payload = input.take(Int(count))
                guard let header = try? ContentHeader.decode(payload.span.bytes) else { continue }
                action = assembler.receivedHeader(bodySize: header.bodySize)
                expected = Self.header(header.bodySize, limit, action, expected)
            case 2:
                let size = input.number(octets: input.below(9))
                action = assembler.receivedHeader(bodySize: size)
                expected = Self.header(size, limit, action, expected)
            default:
                let count = Int(input.number(octets: 2))
                action = assembler.receivedBody(count: count)
                guard case .body(let rest) = expected, UInt64(count) <= rest else {
                    Self.expectViolation(action)
                    break
                }
                promise(action == (UInt64(count) == rest ? .complete : .more), "a body: \(action)")
                expected = UInt64(count) == rest ? .method : .body(rest - UInt64(count))
            }
            promise(assembler.isIdle == (expected == .method), "idle while something is missing")
            // The connection is closed behind a violation.
            if case .violation = action { return }
        }
    }

    private static func header(
        _ size: UInt64,
        _ limit: UInt64,
        _ action: ContentAssembler.Action,
        _ expected: Expected
    ) -> Expected {
        guard expected == .header else {
            Self.expectViolation(action)
            return expected
        }
        promise(action == (size == 0 ? .complete : size > limit ? .skip : .more), "a header: \(action)")
        return size == 0 ? .method : .body(size)
    }

    private static func expectViolation(_ action: ContentAssembler.Action) {
        guard case .violation(let code, let text) = action else { fatalError("no violation: \(action)") }
        promise(code == .unexpectedFrame || code == .frameError, "\(code)")
        promise(!text.isEmpty, "a violation without a word")
    }
}
