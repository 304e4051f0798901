// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Foundation

// Rendezvous: several instances of the tool, on any machines, that make one run together. They agree through the broker
// that is measured and nothing else.
//
//   leader    who holds the exclusive queue amqp-bench-ID-leader; one instance, whichever came first
//   steps     every instance sends the step it has reached to that queue; when all have, the leader publishes to the
//             fanout exchange amqp-bench-ID-go, to which each has bound a queue of its own
//   results   the last step carries the report of each; the leader adds them up
//
//   death     an instance's queue is exclusive and goes with its connection; who waits looks for the queues of the others
//
// Clocks are not compared: each instance measures only the latency of messages of its own.

/// One instance's part of a run of several.
struct Rendezvous: Sendable {
    /// How long the others may keep one waiting.
    static let patience = Duration.seconds(120)
    /// How often is looked whether they are still there.
    private static let lookEvery = Duration.milliseconds(500)

    let isLeader: Bool
    /// Which instance this is, from 0.
    private(set) var index = 0
    private let count: Int
    private let name: String
    private let connection: AMQPConnection
    private let channel: AMQPChannel
    /// Where the leader's words come; also what this instance is called among them.
    private let member: String
    /// The queues of all, in order, as far as they are known.
    private var members: [String] = []

    /// What an instance sends to the leader.
    private struct Word: Codable {
        var member: String
        var step: String
        var options: RunOptions?
        var report: Report?
    }

    /// What the leader sends to all.
    private struct Go: Codable {
        var step: String
        var members: [String]
        var failure: String?
    }

    /// Waits until all are there.
    ///
    /// - Parameters:
    ///   - id: What all instances of the run are given.
    ///   - count: How many there are.
    ///   - options: What this one was told; it must be the same for all.
    ///   - connection: A connection that stays open.
    /// - Returns: This instance's part.
    /// - Throws: ``BenchFailure`` or `AMQPError`.
    static func join(
        id: String,
        count: Int,
        options: RunOptions,
        on connection: AMQPConnection
    ) async throws -> Rendezvous {
        let name = "amqp-bench-\(id)"
        // Who is refused (405) is not the leader; the channel of the question is closed then.
        let question = try await connection.openChannel()
        let isLeader = (try? await question.declareQueue("\(name)-leader", exclusive: true)) != nil
        let channel = try await connection.openChannel()
        try await channel.declareExchange("\(name)-go", type: .fanout, autoDelete: true)
        let queue = try await channel.declareQueue(exclusive: true)
        try await channel.bindQueue(queue.name, to: "\(name)-go")
        var part = Rendezvous(
            isLeader: isLeader,
            count: count,
            name: name,
            connection: connection,
            channel: channel,
            member: queue.name
        )
        // Labels may tell the instances apart.
        var options = options
        options.labels = [:]
        let members = try await part.exchange(Word(member: queue.name, step: "join", options: options)).go.members
        part.index = members.firstIndex(of: queue.name) ?? 0
        part.members = members
        return part
    }

    /// Waits until all have reached a step.
    ///
    /// - Parameter step: Its name.
    /// - Throws: ``BenchFailure`` when one does not come.
    func meet(_ step: String) async throws { _ = try await self.exchange(Word(member: self.member, step: step)) }

    /// Sends a report to the leader.
    ///
    /// - Parameter report: What this instance measured.
    /// - Returns: Those of all, for the leader; nil for the others.
    /// - Throws: ``BenchFailure`` when one does not come.
    func gather(_ report: Report) async throws -> [Report]? {
        let (_, words) = try await self.exchange(Word(member: self.member, step: "result", report: report))
        return self.isLeader ? words.compactMap(\.report) : nil
    }

    /// Closes the channels; what was declared goes with them.
    func leave(timeout: Duration) async { try? await self.channel.close(timeout: timeout) }

    // MARK: - One step

    private func exchange(_ word: Word) async throws -> (go: Go, words: [Word]) {
        let deadline = ContinuousClock.now + Self.patience
        let body = AMQPBody(Array(try JSONEncoder().encode(word)))
        try await self.channel.publish(AMQPMessage(body), to: .queue("\(self.name)-leader"))
        var words: [Word] = []
        if self.isLeader {
            do {
                words = try await self.words(of: word.step, until: deadline)
            } catch let error as BenchFailure {
                // The others need not find out by themselves.
                try? await self.say(Go(step: word.step, members: [], failure: error.description))
                throw error
            }
            let members = words.map(\.member).sorted()
            let isAgreed = Set(words.map(\.options)).count == 1
            let failure = isAgreed ? nil : "the instances were not all given the same options"
            try await self.say(Go(step: word.step, members: members, failure: failure))
        }
        while true {
            let data = try await self.take(from: self.member, step: word.step, until: deadline)
            let go = try JSONDecoder().decode(Go.self, from: data)
            guard go.step == word.step else { continue }
            if let failure = go.failure { throw BenchFailure(description: failure, status: ExitStatus.failed) }
            return (go, words)
        }
    }

    /// Says a word to all instances.
    private func say(_ go: Go) async throws {
        let body = AMQPBody(Array(try JSONEncoder().encode(go)))
        try await self.channel.publish(AMQPMessage(body), to: .exchange("\(self.name)-go"))
    }

    /// What all instances say at a step.
    private func words(of step: String, until deadline: ContinuousClock.Instant) async throws -> [Word] {
        var words: [Word] = []
        while words.count < self.count {
            let silent = self.members.filter { member in !words.contains { $0.member == member } }
            let data = try await self.take(from: "\(self.name)-leader", step: step, until: deadline, needing: silent)
            let other = try JSONDecoder().decode(Word.self, from: data)
            if other.step == step { words.append(other) }
        }
        return words
    }

    /// The next message of a queue; asked for, so that no message waits in a buffer of ours between two steps.
    ///
    /// Without one it fails when an instance that is needed has gone; all that are known, and the leader, by default.
    private func take(
        from queue: String,
        step: String,
        until deadline: ContinuousClock.Instant,
        needing needed: [String]? = nil
    ) async throws -> Data {
        var nextLook = ContinuousClock.now + Self.lookEvery
        while ContinuousClock.now < deadline {
            if let got = try await self.channel.get(queue, acknowledgement: .automatic) {
                return Data(got.body.string.utf8)
            }
            if ContinuousClock.now >= nextLook {
                if let gone = try await self.firstMissing(of: needed ?? self.members + ["\(self.name)-leader"]) {
                    // It may have left because all was said: then it was said here too.
                    if let got = try await self.channel.get(queue, acknowledgement: .automatic) {
                        return Data(got.body.string.utf8)
                    }
                    throw BenchFailure(description: self.sentence(gone, step: step), status: ExitStatus.failed)
                }
                nextLook = ContinuousClock.now + Self.lookEvery
            }
            try await Task.sleep(for: .milliseconds(5))
        }
        throw BenchFailure(
            description: "of \(self.count) instances not all reached the step \(step) within "
                + "\(Self.patience.components.seconds) s; start all with the same --id and --instances",
            status: ExitStatus.failed
        )
    }

    /// An instance whose queue is no longer there; nil when all are.
    private func firstMissing(of queues: [String]) async throws -> String? {
        for queue in queues {
            do throws(AMQPError) {
                if try await self.connection.inspectQueue(queue) == nil { return queue }
            } catch {
                // It is there, and exclusive to another connection.
                guard error.replyCode == .resourceLocked else { throw error }
            }
        }
        return nil
    }

    private func sentence(_ gone: String, step: String) -> String {
        let who =
            self.members.firstIndex(of: gone).map { "instance \($0 + 1) of \(self.count)" } ?? "the first instance"
        return "\(who) has gone before the step \(step): its connection to the broker has ended"
    }
}
