// SPDX-License-Identifier: Apache-2.0

// CloseHandshake: the two-way close of one channel or one connection (§1.4.2.9, §1.5.2.5).
// Pure: no socket, clock, task or lock. The owner performs the action each call returns, and bounds the wait for close-ok.
//
//   open --close()--> closing --receivedCloseOk()--> closed
//   open --receivedClose()-------------------------> closed   (answered with close-ok)
//   closing --receivedClose()--> closing                      (both at once: answered, and still waiting for close-ok)

package struct CloseHandshake<Waiter> {
    fileprivate enum State {
        case open
        case closing([Waiter])
        case closed
    }

    /// The owner's next step for a caller that closes.
    package enum CloseAction {
        /// Send close, and wait for close-ok.
        case sendClose
        /// Close was already sent; the waiter is resumed with the others.
        case wait
        /// Already closed; resume the waiter.
        case alreadyClosed(Waiter?)
    }

    /// The owner's next step after the peer's close.
    package enum ReceivedCloseAction {
        /// Send close-ok; the peer closed first.
        case sendCloseOk
        /// Send close-ok, and keep waiting for the reply to the client's own close.
        case sendCloseOkAndWait
        /// A stray frame; ignore it.
        case ignore
    }

    /// The owner's next step after close-ok.
    package enum CloseOkAction {
        /// The handshake is complete; resume these waiters.
        case resume([Waiter])
        /// Close-ok without a close: a violation.
        case unexpected
        /// A stray frame; ignore it.
        case ignore
    }

    private var state: State = .open

    package init() {}

    /// True until either side sends close.
    package var isOpen: Bool { if case .open = self.state { true } else { false } }
    package var isClosed: Bool { if case .closed = self.state { true } else { false } }

    /// Begins the close by this side; the waiter, if any, is kept until close-ok.
    package mutating func close(_ waiter: Waiter?) -> CloseAction {
        switch self.state {
        case .open:
            self.state = .closing(waiter.map { [$0] } ?? [])
            return .sendClose
        case .closing(var waiters):
            if let waiter { waiters.append(waiter) }
            self.state = .closing(waiters)
            return .wait
        case .closed:
            return .alreadyClosed(waiter)
        }
    }

    /// Handles the peer's close.
    package mutating func receivedClose() -> ReceivedCloseAction {
        switch self.state {
        case .open:
            self.state = .closed
            return .sendCloseOk
        case .closing:
            return .sendCloseOkAndWait
        case .closed:
            return .ignore
        }
    }

    /// Handles close-ok.
    package mutating func receivedCloseOk() -> CloseOkAction {
        switch self.state {
        case .open:
            return .unexpected
        case .closing(let waiters):
            self.state = .closed
            return .resume(waiters)
        case .closed:
            return .ignore
        }
    }

    /// Ends the handshake: the link was lost, or the wait for close-ok timed out.
    ///
    /// - Returns: The waiters for close-ok.
    package mutating func abort() -> [Waiter] {
        defer { self.state = .closed }
        guard case .closing(let waiters) = self.state else { return [] }
        return waiters
    }
}

extension CloseHandshake: Sendable where Waiter: Sendable {}
extension CloseHandshake.State: Sendable where Waiter: Sendable {}
extension CloseHandshake.CloseAction: Equatable where Waiter: Equatable {}
extension CloseHandshake.CloseOkAction: Equatable where Waiter: Equatable {}
