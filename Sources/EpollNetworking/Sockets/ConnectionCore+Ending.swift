// SPDX-License-Identifier: Apache-2.0

// Ending: how a connection is closed so that the peer gets everything that was written. A TCP socket that is closed with
// unread octets, or that gets more afterwards, sends a reset, and a reset destroys octets that are on their way. So the
// loop first sends what is left (the end of TLS), ends the writing half, and reads and discards until the peer ends too.
// It gives up when nothing has moved for `lingerTime`, and in any case after six times that; after a violation of TLS, of
// which the peer only needs the alert, in any case after `lingerTime`.
//
//   close() -> [rest of TLS, close_notify] -> FIN -> discard until the peer's end, or the time is over -> close(2)
//
// Not here: a reset (abort), which closes at once; the table of all endings is in the documentation (Endings).
// Owned by the loop thread, but for close() and closeInOrder().

extension ConnectionCore {
    struct Linger {
        /// When to give up: moved on while octets pass.
        var idleEnd: MonotonicTime
        let end: MonotonicTime
        /// The next look at what the peer has acknowledged, while somebody waits for it.
        var nextLook = Duration.milliseconds(2)
        var undelivered = Int.max
    }

    /// Closes in order, without waiting.
    func close() { self.end(.close) }

    /// Ends the connection when no task is inside a call; those who wait are resumed.
    func end(_ ending: ConnectionFlow.Ending) {
        var resumptions: [FlowResumption] = []
        self.flow.withLock { $0.end(ending, into: &resumptions) }
        for resumption in resumptions { resumption.resume() }
        self.callLoop()
    }

    /// Closes in order, and waits until the peer's kernel has everything that was written.
    ///
    /// The descriptor may stay a while longer, until the peer ends.
    func closeInOrder() async throws(NetworkError) {
        let wasCut = self.flow.withLock { $0.isBroken || $0.ending == .reset || $0.isWriteCut }
        let isDelivered = wasCut || self.finishAtOnce() || self.lingerTime == .zero
        let outcome = Outcome<Void>()
        var known = Result<Void, NetworkError>?.none
        if !isDelivered { known = self.flow.withLock { $0.awaitDelivery(outcome) } }
        self.end(.close)
        if isDelivered { return }
        if let known { return try known.get() }
        try await outcome.value(cancelled: .closingCancelled(self.name))
    }

    /// Ends the writing half as far as the kernel takes everything at once; true when the peer's kernel has all of it, or
    /// gets it without the help of this process.
    private func finishAtOnce() -> Bool {
        guard let side = (try? self.takeWriteSide()) ?? nil else {
            let (isFinished, hasInputEnded) = self.flow.withLock { ($0.isWriteFinished, $0.hasInputEnded) }
            // Not finished: ended already, or another task is writing, which the close cuts off.
            guard isFinished else { return false }
            return hasInputEnded || self.inspect { $0.isUnix || $0.unsentCount == 0 } ?? false
        }
        #if TLS
            if let link = self.tls {
                link.sayGoodbye()
                guard case .count = link.sendOutput({ side.write($0) }).result else { return false }
            }
        #endif
        // After the peer's end no reset can come: nothing is unread, and nothing more arrives.
        var isDelivered = side.isDelivered || self.flow.withLock { $0.hasInputEnded }
        side.finishWriting()
        isDelivered = isDelivered || side.isDelivered
        side.end(.finished)
        return isDelivered
    }
}

// MARK: - Loop thread

extension ConnectionCore {
    /// Advances the ending; called for every event, and when a time is over.
    func continueEnding() {
        guard let side = self.takeClosingSide() else { return }
        let now = MonotonicTime.now
        if let next = self.lingerStep(side, at: now) {
            if let timer = self.timer.take() { self.loop.cancel(timer) }
            self.timer = self.loop.schedule(self, at: next)
            return
        }
        if let timer = self.timer.take() { self.loop.cancel(timer) }
        // Before the descriptor is closed, so that no event of its successor is taken for one of this.
        if let registration = self.registration.take() { self.loop.deregister(registration) }
        self.linger = nil
        let isGivenUp = self.lingerTime > .zero && self.flow.withLock { $0.mayLinger }
        side.close(undelivered: isGivenUp ? .untaken(self.name) : .cutOff(self.name))
    }

    /// Sends, finishes and discards as far as that is possible now; nil when the descriptor is to be closed, else when to
    /// look again.
    private func lingerStep(_ side: borrowing ClosingSide, at now: MonotonicTime) -> MonotonicTime? {
        let (mayLinger, hasFailed, hasInputEnded) = self.flow.withLock {
            ($0.mayLinger, $0.failure != nil, $0.hasInputEnded)
        }
        guard mayLinger, self.registration != nil else { return nil }
        guard self.lingerTime > .zero else {
            // The end of TLS as far as the kernel takes it.
            _ = self.sendRest(side, finishes: false)
            return nil
        }
        var linger =
            self.linger
            ?? Linger(idleEnd: now + self.lingerTime, end: now + self.lingerTime * (hasFailed ? 1 : 6))
        defer { self.linger = linger }

        let hasSentAll: Bool
        switch self.sendRest(side, finishes: !hasInputEnded) {
        case .count where hasInputEnded:
            // close(2) ends the writing half, and nothing can arrive that would make it a reset.
            self.delivered()
            return nil
        case .count: hasSentAll = true
        case .wouldBlock: hasSentAll = false
        case .endOfStream: return nil
        case .failed(let error):
            self.lost(error)
            return nil
        }
        let end = self.discardInput(side)
        if end == .moved { linger.idleEnd = now + self.lingerTime }
        if hasSentAll {
            let undelivered = side.undelivered
            if undelivered == 0 || end == .ended { self.delivered() }
            if undelivered < linger.undelivered, linger.undelivered != .max { linger.idleEnd = now + self.lingerTime }
            linger.undelivered = undelivered
        }
        switch end {
        case .ended, .failed: if hasSentAll || end == .failed { return nil }
        case .moved, .nothing: break
        case .more: self.loop.enqueue(self)
        }
        let last = min(linger.idleEnd, linger.end)
        guard now < last else { return nil }
        guard self.flow.withLock({ $0.isDeliveryAwaited }) else { return last }
        // The kernel reports that it has got everything delivered, but nothing about the way there.
        defer { linger.nextLook = min(linger.nextLook * 2, .milliseconds(250)) }
        return min(last, now + linger.nextLook)
    }

    /// Sends what TLS has left, and ends the writing half, once.
    private func sendRest(_ side: borrowing ClosingSide, finishes: Bool) -> IOResult {
        let (isFinished, isCut) = self.flow.withLock { ($0.isWriteFinished, $0.isWriteCut) }
        if isFinished { return .count(0) }
        #if TLS
            if let link = self.tls, !isCut {
                link.sayGoodbye()
                let result = link.sendOutput { side.write($0) }.result
                guard case .count = result else { return result }
            }
        #endif
        if !finishes { return .count(0) }
        if side.undelivered == 0 { self.delivered() }
        side.finishWriting()
        _ = self.flow.withLock { $0.endWrite(isCut ? .cut : .finished) }
        return .count(0)
    }

    private enum Discarded { case ended, failed, moved, nothing, more }

    /// Reads what the peer still sends; nobody wants it.
    private func discardInput(_ side: borrowing ClosingSide) -> Discarded {
        if self.flow.withLock({ $0.hasInputEnded }) { return .ended }
        let storage = self.loop.chunks.take()
        defer { self.loop.chunks.giveBack(storage) }
        var hasMoved = false
        for _ in 0..<16 {
            switch side.read(into: storage.room) {
            case .count: hasMoved = true
            case .endOfStream: return .ended
            case .wouldBlock: return hasMoved ? .moved : .nothing
            case .failed(let error):
                self.lost(error)
                return .failed
            }
        }
        return .more
    }

    private func lost(_ error: SystemError) {
        let failure = NetworkError(connection: self.name, error)
        self.flow.withLock { $0.fail(failure) }
    }

    private func delivered() {
        let waiters = self.flow.withLock { $0.endDelivery(.success(())) }
        for waiter in waiters { waiter.decide(.success(())) }
    }
}
