// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import EpollConcurrency
import EpollNetworking

// What a client's publisher does with an outbox: publishes from it in order, waits for its entries over as many channels
// as it takes, finds the one for which the broker closes channels, and gives up what is left at the end.

extension Outbox {
    /// Time a publish that is tried alone may take, before the others are published after it all the same.
    private static let patience = Duration.seconds(5)

    /// Sees to entries whose channels are gone, and tells of those the broker refused.
    func sweep(_ link: ConnectionLink) {
        let refusals = self.channelsEnded { link.declares(missingIn: $0) }
        for refusal in refusals { link.publishRefused(refusal) }
    }

    /// On a new channel, before it is used: publishes each entry alone for which the last one may have been closed.
    ///
    /// - Returns: False when the broker has closed this channel too, which has then shown who it was.
    func clear(
        _ core: ChannelSession,
        of link: ConnectionLink,
        until deadline: MonotonicTime
    ) async throws(AMQPError) -> Bool {
        self.sweep(link)
        var last: UInt64 = 0
        let latest = min(deadline, MonotonicTime.now.advanced(by: Self.patience))
        while true {
            let suspects = self.suspects
            guard suspects.areThere else { return true }
            do throws(AMQPError) {
                // Nothing else is unconfirmed while a suspect is.
                if suspects.isNext, last > 0 {
                    try await core.waitUntilSettled(through: last, deadline: latest.nanoseconds)
                }
                switch try self.publishNext(on: core, isAlone: suspects.isNext) {
                case .done: return true
                case .noRoom: try await core.waitForRoom(deadline: deadline.nanoseconds)
                case .published(let sequence):
                    last = sequence
                    guard suspects.isNext else { continue }
                    try await core.waitUntilSettled(through: last, deadline: latest.nanoseconds)
                }
            } catch {
                if core.isUsable {
                    // Out of patience: the others follow, and if one of them is it, it will be looked for again.
                    guard error.code == .timedOut, MonotonicTime.now < deadline else { throw error }
                    while self.suspects.areThere, case .published? = try? self.publishNext(on: core) {}
                    return true
                }
                guard error.scope == .channel else { throw error }
                self.sweep(link)
                return false
            }
        }
    }
}

extension RecoveringPublisher {
    /// Takes a message into the outbox and publishes it as soon as there is a channel with room.
    func put(
        _ message: AMQPMessage,
        to destination: AMQPDestination,
        mandatory: Bool,
        site: CallSite,
        in outbox: Outbox,
        until deadline: MonotonicTime,
        isMetered: Bool = true,
        isWatched: Bool = true
    ) async throws(AMQPError) -> OutboxEntry {
        var message = message.identified
        let watch = isWatched ? await self.observed(until: deadline)?.watchEnqueue(of: message, to: destination) : nil
        watch?.inject(into: &message.properties)
        let entry = OutboxEntry(message, to: destination, mandatory: mandatory, site: site, isMetered: isMetered)
        do throws(AMQPError) {
            try await self.put(entry, in: outbox, until: deadline)
            watch?.end(isTimed: false)
        } catch {
            watch?.end(error, isTimed: false)
            throw error
        }
        return entry
    }

    /// The channel whose connection watches a publish: the first publish waits for it, as it would to be written.
    ///
    /// During an outage nobody watches: what waits for room in the outbox has to learn of a shutdown.
    private func observed(until deadline: MonotonicTime) async -> ChannelSession? {
        if let present = self.channels.present { return present }
        guard !self.channels.wasMade else { return nil }
        return try? await self.core(until: deadline)
    }

    private func put(_ entry: OutboxEntry, in outbox: Outbox, until deadline: MonotonicTime) async throws(AMQPError) {
        while let oldest = try outbox.add(entry) { try await self.waitForRoom(oldest, in: outbox, until: deadline) }
        do throws(AMQPError) {
            if Task.isCancelled { throw ConnectionSession.cancelled(safe: true) }
            try await self.publish(outbox, through: entry, until: deadline)
        } catch {
            // What was written once is the outbox's.
            if outbox.withdraw(entry) { throw error.withSafeRetry }
        }
        if let error = outbox.takeNotSent(entry) { throw error.withSafeRetry }
    }

    /// As `put`, if there are a channel and room now.
    func tryPut(
        _ message: AMQPMessage,
        to destination: AMQPDestination,
        mandatory: Bool,
        site: CallSite,
        in outbox: Outbox,
        _ core: ChannelSession
    ) throws(AMQPError) -> OutboxEntry? {
        guard !outbox.hasWaiting else { return nil }
        var message = message.identified
        let watch = core.watchEnqueue(of: message, to: destination)
        watch?.inject(into: &message.properties)
        defer { watch?.end(isTimed: false) }
        let entry = OutboxEntry(message, to: destination, mandatory: mandatory, site: site, isMetered: true)
        guard try outbox.add(entry) == nil else { return nil }
        do throws(AMQPError) {
            while case .published = try outbox.publishNext(on: core) {}
        } catch {
            if outbox.withdraw(entry) { return nil }
            return entry
        }
        if let error = outbox.takeNotSent(entry) { throw error.withSafeRetry }
        return outbox.withdraw(entry) ? nil : entry
    }

    func publish(
        _ message: AMQPMessage,
        to destination: AMQPDestination,
        mandatory: Bool,
        site: CallSite,
        through outbox: Outbox,
        until deadline: MonotonicTime
    ) async throws(AMQPError) {
        var message = message.identified
        let watch = await self.observed(until: deadline)?.watchConfirm(of: message, to: destination)
        watch?.inject(into: &message.properties)
        let outcome: AMQPPublishOutcome
        do throws(AMQPError) {
            let entry = OutboxEntry(message, to: destination, mandatory: mandatory, site: site, isMetered: false)
            try await self.put(entry, in: outbox, until: deadline)
            do throws(AMQPError) {
                outcome = try await self.outcome(of: entry, in: outbox, until: deadline)
            } catch {
                // This caller is told, and has the message: the outbox lets go of it.
                outcome = outbox.abandon(entry, error)
            }
        } catch {
            watch?.end(error)
            throw error
        }
        let error = outcome.error
        watch?.end(error)
        if let error { throw error }
    }

    /// Waits until an entry has ended, over as many channels as it takes.
    ///
    /// - Throws: The wait failed; the entry is still held.
    func outcome(
        of entry: OutboxEntry,
        in outbox: Outbox,
        until deadline: MonotonicTime
    ) async throws(AMQPError) -> AMQPPublishOutcome {
        while true {
            do throws(AMQPError) {
                switch outbox.place(of: entry, isAsked: true) {
                case .ended(let outcome): return outcome
                case .published(let core, let sequence):
                    try await self.wait(on: core) { () throws(AMQPError) in
                        try await core.waitUntilSettled(sequence, deadline: deadline.nanoseconds)
                    }
                case .waiting: try await self.publish(outbox, through: entry, until: deadline)
                }
            } catch {
                // Given up, or settled in the last moment.
                if case .ended(let outcome) = outbox.place(of: entry, isAsked: true) { return outcome }
                throw error
            }
        }
    }

    /// Publishes what waits in the outbox, in order, until this entry does not.
    private func publish(
        _ outbox: Outbox,
        through entry: OutboxEntry?,
        until deadline: MonotonicTime
    ) async throws(AMQPError) {
        while true {
            if let entry {
                guard case .waiting = outbox.place(of: entry) else { return }
            } else if !outbox.hasWaiting {
                return
            }
            let core = try await self.channels.current(until: deadline)
            do throws(AMQPError) {
                switch try outbox.publishNext(on: core) {
                case .done: return
                case .published: continue
                case .noRoom: try await core.waitForRoom(deadline: deadline.nanoseconds)
                }
            } catch {
                guard !core.isUsable, error.code != .timedOut, error.code != .cancelled else { throw error }
                self.drop(core)
            }
        }
    }

    /// Waits on a channel; its end is no failure of the wait.
    private func wait(
        on core: ChannelSession,
        _ body: () async throws(AMQPError) -> Void
    ) async throws(AMQPError) {
        do throws(AMQPError) {
            try await body()
        } catch {
            guard !core.isUsable, error.code != .timedOut, error.code != .cancelled else { throw error }
        }
        // Nothing is unconfirmed on a channel that is gone: what was may have to be published again.
        if !core.isUsable { self.drop(core) }
    }

    /// Waits until an entry has ended that keeps the outbox full.
    private func waitForRoom(
        _ oldest: OutboxEntry,
        in outbox: Outbox,
        until deadline: MonotonicTime
    ) async throws(AMQPError) {
        let full = AMQPError(.timedOut, "the outbox is full", isSafeToRetry: true)
        let isSettled = await withTaskGroup(of: Result<Bool, AMQPError>.self) { group in
            group.addTask {
                do throws(AMQPError) {
                    _ = try await self.settled(oldest, in: outbox, until: deadline)
                    return .success(true)
                } catch {
                    return .failure(error)
                }
            }
            group.addTask {
                do throws(AMQPError) {
                    // A shutdown while there is no broker ends the wait at once.
                    try await outbox.waitUntilClosed(
                        until: deadline,
                        or: { self.link.isStopping && self.link.current == nil }
                    )
                    return .success(false)
                } catch {
                    return .failure(error)
                }
            }
            defer { group.cancelAll() }
            return await group.next() ?? .success(true)
        }
        switch isSettled {
        case .success(true): return
        case .success(false): throw (outbox.closing ?? self.link.ending ?? ConnectionLink.shutDown).withSafeRetry
        case .failure(let error):
            if let closing = outbox.closing { throw closing.withSafeRetry }
            throw error.code == .timedOut ? full : error.withSafeRetry
        }
    }

    /// As `outcome(of:in:until:)`, for one who does not own the entry.
    private func settled(
        _ entry: OutboxEntry,
        in outbox: Outbox,
        until deadline: MonotonicTime
    ) async throws(AMQPError) {
        while true {
            switch outbox.place(of: entry) {
            case .ended: return
            case .published(let core, let sequence):
                try await self.wait(on: core) { () throws(AMQPError) in
                    try await core.waitUntilSettled(sequence, deadline: deadline.nanoseconds)
                }
            case .waiting: try await self.publish(outbox, through: entry, until: deadline)
            }
        }
    }

    // MARK: all of them

    func waitForConfirms(of outbox: Outbox, until deadline: MonotonicTime) async throws(AMQPError) {
        let newest = outbox.newest
        do throws(AMQPError) {
            wait: while true {
                switch outbox.next(through: newest) {
                case .done: break wait
                case .settled(let core, let through):
                    try await self.wait(on: core) { () throws(AMQPError) in
                        try await core.waitUntilSettled(through: through, deadline: deadline.nanoseconds)
                    }
                case .publishing(let entry): try await self.publish(outbox, through: entry, until: deadline)
                }
            }
        } catch {
            guard case .done = outbox.next(through: newest) else { throw Self.open(outbox, error) }
        }
        if let failure = outbox.takeFailures() { throw failure }
    }

    /// The error of a wait that did not last until everything had ended: with the failures that are known by then, which
    /// nobody else reports.
    private static func open(_ outbox: Outbox, _ error: AMQPError) -> AMQPError {
        let count = outbox.heldCount
        guard count > 0, error.code != .cancelled else { return error }
        let held = count == 1 ? "1 message of the outbox is" : "\(count) messages of the outbox are"
        let failed = outbox.takeFailures().map { "; failed: \($0)" } ?? ""
        return AMQPError(
            error.code,
            "\(held) not confirmed: \(error.replyText)\(failed)",
            replyCode: error.replyCode,
            origin: error.origin
        )
    }

    /// Publishes what waits in the outbox, in a task, where nobody else may.
    func driveOutbox() {
        guard let outbox, outbox.hasWaiting, !self.channels.isClosed, self.link.ending == nil else { return }
        let isFirst = self.isDriven.withLock { isDriven in
            defer { isDriven = true }
            return !isDriven
        }
        guard isFirst else { return }
        Task {
            while outbox.hasWaiting, !self.channels.isClosed, self.link.ending == nil {
                do throws(AMQPError) {
                    try await self.publish(outbox, through: nil, until: self.link.deadline(nil))
                } catch {
                    // Its deadline, or the broker gives no channel: not at once again.
                    try? await EventLoopGroup.shared.next().sleep(for: .milliseconds(100))
                }
            }
            self.isDriven.withLock { $0 = false }
            // Something may have come between the last look and that.
            self.driveOutbox()
        }
    }

    /// Ends what the outbox still holds, and tells how much that was.
    func giveUp(_ reason: AMQPError) {
        guard let outbox else { return }
        outbox.sweep(self.link)
        let count = outbox.giveUp(reason)
        if count > 0 { self.link.publishesGivenUp(count, reason) }
        self.metrics?.end()
    }
}

extension ChannelSession {
    /// The watch of a publish with a receipt; nil where operations have no spans.
    func watchEnqueue(of message: AMQPMessage, to destination: AMQPDestination) -> OperationWatch? {
        self.isTracing ? self.watchPublish(destination, message.properties, bodySize: message.body.count) : nil
    }

    /// The watch of a publish that waits for its confirm; nil where nobody watches.
    func watchConfirm(of message: AMQPMessage, to destination: AMQPDestination) -> OperationWatch? {
        guard self.driver.observation.isWatching else { return nil }
        return self.watchPublish(destination, message.properties, bodySize: message.body.count)
    }
}
