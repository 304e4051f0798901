// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import Testing

// ContentAssembler: sequences of frames, and what each of them must answer.

@Suite("Content assembler")
struct ContentAssemblerTests {
    enum Frame: Sendable {
        case method(MethodID, content: Bool)
        case header(UInt64)
        case body(Int)
    }

    enum Answer: Hashable, Sendable {
        case more
        case skip
        case complete
        case violation(ReplyCode)
    }

    struct Row: CustomTestStringConvertible, Sendable {
        let name: String
        let steps: [(Frame, Answer)]
        var testDescription: String { self.name }
    }

    static let deliver = Frame.method(Basic.Deliver.id, content: true)
    static let ack = Frame.method(Basic.Ack.id, content: false)
    static let close = Frame.method(Channel.Close.id, content: false)
    static let closeOk = Frame.method(Channel.CloseOk.id, content: false)

    static let rows = [
        Row(name: "one body", steps: [(deliver, .more), (.header(3), .more), (.body(3), .complete), (deliver, .more)]),
        Row(
            name: "several bodies, one of them empty",
            steps: [(deliver, .more), (.header(5), .more), (.body(2), .more), (.body(0), .more), (.body(3), .complete)]
        ),
        Row(name: "no body", steps: [(deliver, .more), (.header(0), .complete), (ack, .complete)]),
        Row(
            name: "a body after an empty content",
            steps: [(deliver, .more), (.header(0), .complete), (.body(0), .violation(.unexpectedFrame))]
        ),
        Row(
            name: "one octet too many",
            steps: [(deliver, .more), (.header(5), .more), (.body(4), .more), (.body(2), .violation(.frameError))]
        ),
        Row(name: "a header first", steps: [(.header(1), .violation(.unexpectedFrame))]),
        Row(name: "a body first", steps: [(.body(1), .violation(.unexpectedFrame))]),
        Row(name: "a body for the header", steps: [(deliver, .more), (.body(1), .violation(.unexpectedFrame))]),
        Row(
            name: "a negative body",
            steps: [(deliver, .more), (.header(1), .more), (.body(-1), .violation(.frameError))]
        ),
        Row(
            name: "a second header",
            steps: [(deliver, .more), (.header(1), .more), (.header(1), .violation(.unexpectedFrame))]
        ),
        Row(name: "a method for the header", steps: [(deliver, .more), (ack, .violation(.unexpectedFrame))]),
        Row(
            name: "a method between bodies",
            steps: [
                (deliver, .more), (.header(9), .more), (deliver, .violation(.unexpectedFrame)), (.body(9), .complete),
            ]
        ),
        Row(name: "cut by close", steps: [(deliver, .more), (close, .complete), (deliver, .more)]),
        Row(
            name: "cut by close-ok",
            steps: [(deliver, .more), (.header(9), .more), (closeOk, .complete), (ack, .complete)]
        ),
        Row(name: "the largest body", steps: [(deliver, .more), (.header(1000), .more), (.body(1000), .complete)]),
        Row(
            name: "one octet beyond the limit",
            steps: [
                (deliver, .more), (.header(1001), .skip), (.body(1000), .more), (.body(1), .complete), (deliver, .more),
            ]
        ),
        Row(
            name: "an absurd size",
            steps: [(deliver, .more), (.header(.max), .skip), (.body(.max), .more), (close, .complete)]
        ),
        Row(
            name: "longer than a size beyond the limit",
            steps: [(deliver, .more), (.header(1001), .skip), (.body(1002), .violation(.frameError))]
        ),
    ]

    @Test("The order of frames is kept, and a frame out of order changes nothing", arguments: rows)
    func order(_ row: Row) {
        var assembler = ContentAssembler(maximumBodySize: 1000)
        for (frame, expected) in row.steps {
            let before = assembler
            let action =
                switch frame {
                case .method(let id, let content): assembler.receivedMethod(id, carriesContent: content)
                case .header(let size): assembler.receivedHeader(bodySize: size)
                case .body(let count): assembler.receivedBody(count: count)
                }
            switch action {
            case .more: #expect(expected == .more)
            case .skip: #expect(expected == .skip)
            case .complete: #expect(expected == .complete)
            case .violation(let code, let text):
                #expect(expected == .violation(code))
                #expect(!text.isEmpty)
                #expect(assembler == before)
            }
        }
    }

    @Test("Without a limit any size may be announced")
    func unlimited() {
        var assembler = ContentAssembler()
        #expect(assembler.receivedMethod(Basic.GetOk.id, carriesContent: true) == .more)
        #expect(assembler.receivedHeader(bodySize: .max) == .more)
        #expect(assembler.receivedBody(count: .max) == .more)
        #expect(!assembler.isIdle)
    }
}
