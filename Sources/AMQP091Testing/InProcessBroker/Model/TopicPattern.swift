// SPDX-License-Identifier: Apache-2.0

// TopicPattern: the binding key of a topic exchange (AMQP 0-9-1 §3.1.3.3): words between dots, * for one word, # for any
// number of them. Matching needs one backtracking point, so that no pattern costs more than the
// product of the two lengths.

struct TopicPattern: Hashable {
    private enum Part: Hashable {
        case word(Substring)
        case one
        case any
    }

    private let parts: [Part]

    init(_ text: String) {
        self.parts = Self.words(text).map { word in
            switch word {
            case "*": .one
            case "#": .any
            default: .word(word)
            }
        }
    }

    func matches(_ routingKey: String) -> Bool { self.matches(words: Self.words(routingKey)) }

    /// An empty key has no words.
    static func words(_ text: String) -> [Substring] {
        text.isEmpty ? [] : text.split(separator: ".", omittingEmptySubsequences: false)
    }

    func matches(words: [Substring]) -> Bool {
        var part = 0
        var word = 0
        // The position after the last #, and the number of words it has matched so far.
        var retryPart: Int?
        var retryWord = 0
        while word < words.count {
            if part < self.parts.count {
                switch self.parts[part] {
                case .any:
                    retryPart = part + 1
                    retryWord = word
                    part += 1
                    continue
                case .one:
                    part += 1
                    word += 1
                    continue
                case .word(let expected) where expected == words[word]:
                    part += 1
                    word += 1
                    continue
                case .word: break
                }
            }
            guard let retry = retryPart else { return false }
            retryWord += 1
            word = retryWord
            part = retry
        }
        return self.parts[part...].allSatisfy { $0 == .any }
    }
}
