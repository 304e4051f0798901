// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollNetworking

// From the stream to frames: has the reader find whole deliveries and other frames where they lie (InboundReader), and hands
// over at the end of a read what it brought. Pauses while consumers are behind. When to read: StreamEngine. Loop thread only.

extension ConnectionDriver {
    /// Any thread: a consumer caught up.
    func resumeReading() {
        self.loop.enqueue(self)
    }

    func streamWritable() {
        self.observation.metrics?.touch(self)
        self.flush()
    }

    func streamRoom() -> UnsafeMutableRawBufferPointer? {
        self.observation.metrics?.touch(self)
        return self.shouldPause() ? nil : self.inbound.roomToRead()
    }

    func streamReceived(_ count: Int) {
        self.inbound.commit(count)
        self.octetsRead += count
        self.observation.metrics?.received(octets: count)
        self.heartbeat?.read(now: self.loop.turnTime.nanoseconds)
        let alreadyParsed = self.inbound.parsed
        self.parse()
        if let frameTrace {
            let base = self.inbound.chunk.base + alreadyParsed
            let count = self.inbound.parsed - alreadyParsed
            frameTrace.show(.received, UnsafeRawBufferPointer(start: base, count: count))
        }
    }

    func streamRested(hasEmptied: Bool) { self.finishRead(hasEmptied: hasEmptied) }

    func streamEnded(_ end: StreamEnd) {
        switch end {
        case .failed(let error): self.terminate(self.linkLost(error))
        case .loopStopped:
            let isLoggingIn = self.openWaiter != nil
            self.terminate(
                AMQPError(
                    isLoggingIn ? .connectFailed : .connectionClosed,
                    "the event loop has been shut down",
                    scope: .connection,
                    isSafeToRetry: isLoggingIn
                )
            )
        case .endOfStream:
            let inFrame = self.inbound.isInFrame
            self.terminate(
                AMQPError(
                    .connectionClosed,
                    inFrame ? "the peer ended the link in the middle of a frame" : "the peer ended the link",
                    scope: .connection
                )
            )
        }
    }

    private func parse() {
        let chunk = self.inbound.chunk
        let octets = RawSpan(_unsafeBytes: UnsafeRawBufferPointer(start: chunk.base, count: self.inbound.filled))
        // Deliveries come in runs for one consumer: while channel and consumer tag stay the same, so does the batch.
        var batch: DeliveryBatch?
        var batchChannel: UInt16 = 0
        var batchTag: UInt32 = 0
        do {
            while true {
                let frame: DecodedFrame
                switch try self.inbound.next(in: octets) {
                case .delivery(let record, let channel):
                    self.deliveriesRead += 1
                    if let batch, channel == batchChannel, !batch.isFull,
                        chunk.hasSameShortString(at: batchTag, as: record.arguments)
                    {
                        batch.append(record)
                        continue
                    }
                    batch = self.batch(for: record, in: chunk, channel: channel)
                    if self.isTerminated { return }
                    batchChannel = channel
                    batchTag = record.arguments
                    batch?.append(record)
                    continue
                case .confirm(let confirm):
                    if self.keep(confirm) { continue }
                    guard let found = try self.inbound.frameOfConfirm(in: octets) else { return }
                    frame = found
                case .frame(let found): frame = found
                case .more: return
                }
                // It may end the consumer.
                batch = nil
                try self.received(frame, in: octets, chunk: chunk)
                if self.isTerminated { return }
            }
        } catch {
            self.violated(error)
        }
    }

    /// The end of one read: everything it brought is handed over, and every waiter it answers is woken.
    ///
    /// - Parameter hasEmptied: Whether it left nothing in the socket.
    private func finishRead(hasEmptied: Bool) {
        if !self.touchedInboxes.isEmpty { self.touchedInboxes.drain { if $0.handOver() { self.isPaused = true } } }
        self.settlePendingConfirms()
        self.coalesce(hasEmptied: hasEmptied)
    }

    /// Whether the next read waits a little, so that several deliveries come with it.
    private func coalesce(hasEmptied: Bool) {
        guard self.coalescing != nil, !self.isTerminated else { return }
        let now = self.loop.turnTime.nanoseconds
        if hasEmptied, !self.isPaused, !self.stream.isPeerOver {
            self.coalescing?.read(
                deliveries: self.deliveriesRead,
                octets: self.octetsRead,
                isAwaited: self.state.withLock { $0.waiters.count > 0 },
                now: now
            )
        } else {
            self.coalescing?.stop(now: now)
        }
        self.deliveriesRead = 0
        self.octetsRead = 0
        let isPausing = self.coalescing?.isPausing ?? false
        if isPausing || self.isPausingBeforeReading { self.pauseBeforeReading(isPausing) }
    }

    /// Whether consumers are so far behind that the socket is left alone.
    ///
    /// Not while a caller waits for the broker, whose answer may stand behind the deliveries, up to a limit; and not when
    /// the peer has ended the link, behind which no more can come than the kernel holds.
    private func shouldPause() -> Bool {
        guard self.isPaused, !self.stream.isPeerOver else { return false }
        let (open, hasWaiters) = self.state.withChannels { state, channels in
            // Nothing of a channel that is being closed is worth waiting for.
            (state.sessions.compactMap { $0 }.filter { !channels[$0.slot].isClosing }, state.waiters.count > 0)
        }
        let full = open.flatMap { $0.consumers.values.filter { $0.isFull } }
        self.isPaused = !full.isEmpty
        guard self.isPaused, !hasWaiters || full.contains(where: { $0.isOverfull }) else {
            self.heartbeat?.resumedReading(now: MonotonicTime.now.nanoseconds)
            return false
        }
        // The broker's silence is of our own making now.
        self.heartbeat?.pausedReading()
        return true
    }
}
