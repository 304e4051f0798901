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
        if let delivery = try self.beginClose() { try await self.waitForDelivery(delivery) }
    }

    func waitForDelivery(_ delivery: Outcome<Void>) async throws(NetworkError) {
        try await delivery.value(cancelled: .closingCancelled(self.name))
    }

    /// Closes in order; what decides that the peer's kernel has everything, or nil when it has, or nothing is to be waited
    /// for.
    @inline(never)
    func beginClose() throws(NetworkError) -> Outcome<Void>? {
        let wasCut = self.flow.withLock { $0.isBroken || $0.ending == .reset || $0.isWriteCut }
        if wasCut || self.finishAtOnce() || self.lingerTime == .zero {
            self.end(.close)
            return nil
        }
        let outcome = Outcome<Void>()
        let known = self.flow.withLock { $0.awaitDelivery(outcome) }
        self.end(.close)
        guard let known else { return outcome }
        try known.get()
        return nil
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
        var linger = self.linger ?? Linger(self.lingerTime, hasFailed: hasFailed, at: now)
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
        let found = self.discardInput(side)
        if found == .moved { linger.moved(at: now) }
        if hasSentAll {
            let undelivered = side.undelivered
            if undelivered == 0 || found == .ended { self.delivered() }
            linger.remains(undelivered, at: now)
        }
        switch found {
        case .ended: if hasSentAll { return nil }
        case .failed(let error):
            self.lost(error)
            return nil
        case .moved, .nothing: break
        case .more: self.loop.enqueue(self)
        }
        return linger.next(at: now, isAwaited: self.flow.withLock { $0.isDeliveryAwaited })
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

    /// Reads what the peer still sends; nobody wants it.
    private func discardInput(_ side: borrowing ClosingSide) -> Linger.Discarded {
        if self.flow.withLock({ $0.hasInputEnded }) { return .ended }
        let storage = self.loop.chunks.take()
        defer { self.loop.chunks.giveBack(storage) }
        return Linger.discard(into: storage.room) { side.read(into: $0) }
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
