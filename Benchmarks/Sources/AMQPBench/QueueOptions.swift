// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation

// QueueOptions: which queues a run uses, where it is more than one that has a name.

/// Queues by a pattern or from a file.
struct QueueOptions: ParsableArguments {
    @Option(
        help: "Use the queues of this pattern, as perf-%d or perf-%03d, with the numbers of the next two; they stay."
    )
    var queuePattern: String?

    @Option(help: "The first number of --queue-pattern.")
    var queueFrom = 1

    @Option(help: "The last number of --queue-pattern.")
    var queueTo: Int?

    @Option(help: "Use the queues of this file, one name per line; they stay.")
    var queueFile: String?

    @Flag(
        name: [.customShort("E"), .long],
        help: "Make the queues exclusive to one connection, which all consumers share."
    )
    var exclusive = false

    @Flag(help: "Make queues that the broker deletes with their last consumer.")
    var autoDelete = false

    /// The largest number of queues with names.
    private static let most = 10_000

    func validate() throws {
        guard self.queuePattern == nil || self.queueFile == nil else {
            throw ValidationError("--queue-pattern and --queue-file cannot go together.")
        }
        guard (self.queuePattern == nil) == (self.queueTo == nil) else {
            throw ValidationError("--queue-pattern goes with --queue-to, as --queue-pattern perf-%d --queue-to 100.")
        }
        let names = try self.names() ?? ["one"]
        guard 1...Self.most ~= names.count, Set(names).count == names.count else {
            throw ValidationError("--queue-pattern and --queue-file name 1 to \(Self.most) queues, each once.")
        }
        if let name = names.first(where: { $0.utf8.count > 255 }) {
            throw ValidationError("The name of a queue has at most 255 octets: \(name.prefix(40))…")
        }
    }

    /// The names of the queues; nil where neither option is given.
    ///
    /// - Throws: `ValidationError` when the pattern has no number or the file cannot be read.
    func names() throws -> [String]? {
        if let file = self.queueFile {
            guard let text = try? String(contentsOfFile: file, encoding: .utf8) else {
                throw ValidationError("\(file) cannot be read.")
            }
            return text.split(whereSeparator: \.isNewline).map { $0.trimmingCharacters(in: .whitespaces) }
                .filter { !$0.isEmpty }
        }
        guard let pattern = self.queuePattern, let last = self.queueTo else { return nil }
        guard pattern.wholeMatch(of: /[^%]*%(0[1-9])?d[^%]*/) != nil else {
            throw ValidationError("--queue-pattern has one number, as in perf-%d or perf-%03d.")
        }
        guard 0...last ~= self.queueFrom, last - self.queueFrom < Self.most else {
            throw ValidationError("--queue-from to --queue-to are at most \(Self.most) numbers, upwards from 0.")
        }
        return (self.queueFrom...last).map { String(format: pattern, $0) }
    }
}
