// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// Which parts of a topology a connection declares, and which are worth another try.

extension AMQPTopology {
    /// Without exclusive queues and their bindings: those belong to the connection that consumes them.
    var withoutExclusive: AMQPTopology {
        let exclusive = Set(self.queues.filter(\.isExclusive).map(\.name))
        return self.filtered { entity in
            switch entity {
            case .exchange: true
            case .queue(let name): !exclusive.contains(name)
            case .binding(let binding):
                if case .queue(let name) = binding.target { !exclusive.contains(name) } else { true }
            }
        }
    }

    /// What could not be declared for a reason that passes; nil when there is no such thing.
    func subset(toRetryAfter report: AMQPTopologyReport) -> AMQPTopology? {
        let problems = report.problems
        guard problems.contains(where: { $0.finding.mayPass }) else { return nil }
        let entities = Set(
            problems.compactMap { entry -> AMQPTopologyReport.Entity? in
                guard case .failed(let error) = entry.finding else { return nil }
                if entry.finding.mayPass { return entry.entity }
                // A binding fails because its queue is not there yet.
                if case .binding = entry.entity, error.replyCode == .notFound { return entry.entity }
                return nil
            }
        )
        return self.filtered { entities.contains($0) }
    }
}

extension ConnectionLink {
    /// Declares the topology on a connection in use, because something of it is missing; one event tells what failed.
    ///
    /// Callers at the same time share one declaration that begins after their call.
    ///
    /// - Parameters:
    ///   - connection: The link's present connection.
    ///   - timeout: Time for each of the broker's replies; the configuration's `operationTimeout` by default.
    ///   - isPatient: Whether to wait for entities that are locked or unavailable for now.
    /// - Returns: One entry per entity that this connection declares.
    /// - Throws: ``AMQPError`` of scope `.connection`, `.noFreeChannel`, `.timedOut` or `.cancelled`.
    func declareTopologyAgain(
        on connection: AMQPConnection,
        timeout: Duration? = nil,
        isPatient: Bool = true
    ) async throws(AMQPError) -> AMQPTopologyReport {
        try await self.repair.run(until: self.deadline(timeout)) { () throws(AMQPError) in
            let report = try await self.declareTopology(on: connection, timeout: timeout, isPatient: isPatient)
            self.emit(report.isClean ? .topologyDeclaredAgain : .topologyIncomplete(report))
            return report
        }
    }

    /// Declares the topology again when a queue of it is gone whose consumer is busy.
    ///
    /// Publishes would reach no queue meanwhile. A consumer that waits for a delivery does it itself.
    func lookAfterQueues(_ cancelled: Broadcast<String>.Subscription, of connection: AMQPConnection) async {
        while let queue = await cancelled.next() {
            guard self.topology.queues.contains(where: { $0.name == queue }) else { continue }
            guard await self.isDeleted(queue, on: connection, patience: 5) else { continue }
            _ = try? await self.declareTopologyAgain(on: connection)
        }
    }

    /// Whether a queue of the topology is gone, whose consumer the broker has cancelled.
    ///
    /// A queue that is being deleted is there for some milliseconds after that, a stream of a busy RabbitMQ for a second.
    ///
    /// - Parameters:
    ///   - queue: The queue.
    ///   - connection: A connection of this link.
    ///   - patience: How often it is looked for again, at most 5 times in 7.5 s.
    /// - Returns: Whether it is gone.
    func isDeleted(_ queue: String, on connection: AMQPConnection, patience: Int = 3) async -> Bool {
        for delay in [0, 20, 100, 400, 2000, 5000].prefix(patience + 1) {
            if delay > 0 { try? await connection.driver.loop.sleep(for: .milliseconds(delay)) }
            guard connection.isOpen, !Task.isCancelled else { return false }
            let begun = self.repair.begun
            guard await connection.isMissing(queue) else { continue }
            self.repair.foundMissing(queue, since: begun)
            return true
        }
        return false
    }
}

extension AMQPConnection {
    fileprivate func isMissing(_ queue: String) async -> Bool {
        do throws(AMQPError) {
            try await ScratchChannel.with(self.driver, timeout: nil) { scratch throws(AMQPError) in
                _ = try await scratch.ask { channel, timeout throws(AMQPError) in
                    try await channel.inspectQueue(queue, timeout: timeout)
                }
            }
            return false
        } catch {
            return error.replyCode == .notFound
        }
    }
}

extension AMQPTopologyReport.Finding {
    fileprivate var mayPass: Bool {
        if case .failed(let error) = self { error.disposition(for: .topology) == .retry } else { false }
    }
}

extension AMQPTopologyReport {
    /// Takes over what a later declaration found.
    mutating func replace(with later: AMQPTopologyReport) {
        let findings = Dictionary(later.entries.map { ($0.entity, $0.finding) }) { $1 }
        self.entries = self.entries.map { Entry(entity: $0.entity, finding: findings[$0.entity] ?? $0.finding) }
    }

    /// The problems as an error; nil when there are none.
    var problemError: AMQPError? {
        guard !self.isClean else { return nil }
        return AMQPError(
            .topologyRefused,
            self.problems.map(\.description).joined(separator: "; "),
            origin: .broker
        )
    }
}
