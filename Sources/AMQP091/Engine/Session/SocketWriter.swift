// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// SocketWriter: takes what was appended to a connection's OutboundQueue and sends it through the stream, on the thread of
// the loop or of a publishing task. Which of them may is the queue's decision (the writer token); with TLS the loop only.
// Not here: how octets move, and what a full or broken socket means (StreamEngine).
// Unsafe: @exclusivity(unchecked) on the octets taken. Only the holder of the writer token touches them, and no access
// lasts while other code of this class runs.

final class SocketWriter: @unchecked Sendable {
    private struct Taken: ~Copyable {
        var octets = WireBuffer(capacity: 16 << 10)
        var written = 0
        /// They were shown by `FrameTrace`.
        var isShown = false
    }

    private let stream: StreamEngine
    private let trace: FrameTrace?
    @exclusivity(unchecked) private var taken = Taken()

    init(_ stream: StreamEngine, trace: FrameTrace?) {
        self.stream = stream
        self.trace = trace
    }

    // MARK: under the lock

    /// Takes what was appended; false when there is nothing.
    ///
    /// By the holder of the token, who has sent all it took before.
    private func take(_ state: inout ConnectionState, _ channels: inout ChannelTable) -> Bool {
        state.appendUnsentAcks(&channels)
        guard state.outbound.fill.count > 0 else { return false }
        state.counts.send(octets: state.outbound.fill.count)
        swap(&state.outbound.fill, &self.taken.octets)
        self.taken.isShown = false
        return true
    }

    /// Gives the writer token, and what was appended, to the caller, which performs `next`.
    ///
    /// When nobody has the token.
    func takeForCaller(_ state: inout ConnectionState, _ channels: inout ChannelTable, _ next: CallerStep) -> CallerStep
    {
        state.outbound.callerTakes()
        _ = self.take(&state, &channels)
        return next
    }

    // MARK: the caller

    /// Writes what the caller took; what remains is the loop's.
    ///
    /// - Parameter lock: The connection's lock, which is not held.
    /// - Returns: Whether the loop is to be woken.
    func writeAsCaller(_ lock: borrowing ConnectionLock) -> Bool {
        // OpenSSL wants one thread at a time.
        if !self.stream.isSecured, case .drained = self.send() {
            let next = lock.withLock { state in
                state.outbound.callerEnded(
                    hasMore: state.outbound.fill.count > 0 || !state.unsentAcks.isEmpty || state.hasFailed
                )
            }
            return next == .wakeLoop
        }
        lock.withLock { $0.outbound.giveToLoop() }
        return true
    }

    // MARK: the loop thread

    /// Writes all there is, or until the socket takes no more.
    ///
    /// - Parameter lock: The connection's lock, which is not held.
    /// - Returns: Whether octets left, which the peer takes for a sign of life.
    func flush(_ lock: borrowing ConnectionLock) -> Bool {
        var hasWritten = false
        guard self.stream.canSend, self.takesMore(lock, isFirst: true) else { return false }
        repeat {
            let hasOctets = self.taken.written < self.taken.octets.count
            guard self.stream.sent(self.send()) else { return hasWritten }
            // A flush of nothing is no sign of life: a connection that only reads may come here all the time.
            if hasOctets { hasWritten = true }
        } while self.takesMore(lock, isFirst: false)
        return hasWritten
    }

    /// Takes the writer token, and what was appended, for the loop; without anything to write the token is nobody's.
    ///
    /// - Parameters:
    ///   - lock: The connection's lock.
    ///   - isFirst: False if the loop has the token and has written all it took.
    /// - Returns: False when the loop has nothing to write, or a caller writes.
    private func takesMore(_ lock: borrowing ConnectionLock, isFirst: Bool) -> Bool {
        var resumptions: [Resumption] = []
        let hasMore = lock.withChannels { state, channels -> Bool in
            if isFirst {
                switch state.outbound.beginFlush(hasOutput: self.stream.isSecured) {
                case .leave: return false
                case .write: return true
                case .take: break
                }
            }
            let hasMore = self.take(&state, &channels)
            state.outbound.loopTook(hasMore)
            if state.hasRoomWaiters { state.takeRoomWaiters(into: &resumptions) }
            return hasMore
        }
        for resumption in resumptions { resumption.resume() }
        return hasMore
    }

    /// Sends what was taken, as far as the socket takes it.
    ///
    /// By the holder of the token.
    private func send() -> StreamEngine.SendEnd {
        if let trace, !self.taken.isShown, self.taken.octets.count > 0 {
            self.taken.isShown = true
            self.taken.octets.withUnsafeBytes { trace.show(.sent, $0) }
        }
        var written = self.taken.written
        let end = self.taken.octets.withUnsafeBytes { self.stream.send($0, from: &written) }
        if case .drained = end {
            self.taken.octets.removeAll(keepingCapacity: true)
            written = 0
        }
        self.taken.written = written
        return end
    }
}
