// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency

// Ending: how a connection is closed in order so that the peer gets everything that was written. A TCP socket that is closed with
// unread octets, or that gets more afterwards, sends a reset, and a reset destroys octets that are on their way. So the
// loop first sends what is left (the end of TLS), ends the writing half, and reads and discards until the peer ends too.
// It gives up when nothing has moved for `lingerTime`, and in any case after six times that; after a violation of TLS, of
// which the peer only needs the alert, in any case after `lingerTime`.
//
//   close() -> [rest of TLS, close_notify] -> FIN -> discard until the peer's end, or the time is over -> close(2)
//
// Here: what a caller does on its own thread. The loop's part is StreamEngine's. The table of all endings is in the
// documentation (Endings).

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

    func waitForDelivery(_ delivery: NetworkOutcome<Void>) async throws(NetworkError) {
        try await delivery.value(cancelled: .closingCancelled(self.name))
    }

    /// Closes in order; what decides that the peer's kernel has everything, or nil when it has, or nothing is to be waited
    /// for.
    @inline(never)
    func beginClose() throws(NetworkError) -> NetworkOutcome<Void>? {
        let wasCut = self.flow.withLock { $0.isBroken || $0.ending == .reset || $0.isWriteCut }
        if wasCut || self.finishAtOnce() || self.terms.lingerTime == .zero {
            self.end(.close)
            return nil
        }
        let outcome = NetworkOutcome<Void>()
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
        guard case .count = side.sendGoodbye() else { return false }
        // After the peer's end no reset can come: nothing is unread, and nothing more arrives.
        var isDelivered = side.undelivered == 0 || self.flow.withLock { $0.hasInputEnded }
        side.finishWriting()
        isDelivered = isDelivered || side.undelivered == 0
        side.end(.finished)
        return isDelivered
    }
}
