// SPDX-License-Identifier: Apache-2.0

// ReadGate: whether the next read of a connection is due at an event, at the end of a pause, or not before consumers have
// caught up. Pure: no socket, timer or consumer. Loop thread only.
// Not here: how long to pause, and when (DeliveryCoalescing); what an event means for a socket (ReadReadiness).
//
//   atEvents <--rested(isPausing:)--> afterPause
//        \                              /
//         --a consumer is behind--> held --consumers have caught up--> as before

enum ReadGate: Hashable {
    /// Events say when to read.
    case atEvents
    /// Events are not reported; a timer reads.
    case afterPause
    /// A consumer is behind: consumers are looked at before each read.
    case held(hidesEvents: Bool)

    /// How far the consumers of a connection are behind.
    enum Backlog: Hashable {
        case none
        /// A buffer is full.
        case full
        /// A buffer is many times full: not even a reply that somebody waits for is worth more deliveries.
        case excessive
    }

    /// The owner's next step after the end of a read.
    enum Step: Hashable {
        case none
        /// Events say when to read again.
        case reportEvents
        /// A timer reads; no event is reported meanwhile.
        case hideEvents
        /// A timer reads again.
        case pause
    }

    /// Whether consumers are to be looked at before a read.
    var isHeld: Bool {
        if case .held = self { true } else { false }
    }

    private var hidesEvents: Bool {
        switch self {
        case .atEvents: false
        case .afterPause: true
        case .held(let hidesEvents): hidesEvents
        }
    }

    /// A consumer got more than its buffer takes.
    mutating func hold() { self = .held(hidesEvents: self.hidesEvents) }

    /// The consumers were looked at before a read.
    ///
    /// - Parameters:
    ///   - backlog: How far the worst is behind.
    ///   - isAwaited: Whether somebody waits for a reply, which may stand behind deliveries.
    /// - Returns: Whether to read.
    mutating func mayRead(_ backlog: Backlog, isAwaited: Bool) -> Bool {
        guard case .held(let hidesEvents) = self else { return true }
        switch backlog {
        case .none:
            self = hidesEvents ? .afterPause : .atEvents
            return true
        case .full: return isAwaited
        case .excessive: return false
        }
    }

    /// A read, or several in one turn, have ended.
    ///
    /// - Parameter isPausing: Whether the next waits for the end of a pause; not while the gate is held.
    /// - Returns: The owner's next step.
    mutating func rested(isPausing: Bool) -> Step {
        let hidEvents = self.hidesEvents
        self = self.isHeld ? .held(hidesEvents: isPausing) : isPausing ? .afterPause : .atEvents
        if isPausing { return hidEvents ? .pause : .hideEvents }
        return hidEvents ? .reportEvents : .none
    }
}
