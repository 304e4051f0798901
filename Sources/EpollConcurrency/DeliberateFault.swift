// SPDX-License-Identifier: Apache-2.0

// DeliberateFault: mistakes that builds with -DDELIBERATE_FAULTS make on purpose, to show that the simulation finds them
// (scripts/simulate --faults). In every other build nothing of it is compiled.

#if DELIBERATE_FAULTS
    import Synchronization

    package enum DeliberateFault: Int, CaseIterable, Sendable {
        /// An acknowledgement is never sent.
        case acknowledgementDropped = 1
        /// An acknowledgement settles the next delivery too.
        case acknowledgementTooFar
        /// A nack forgets to requeue.
        case requeueForgotten
        /// A refusal is sent twice.
        case refusedTwice
        /// A nacked publish is reported as confirmed.
        case nackReportedAsConfirm
        /// A publish that was written is reported as not sent.
        case unknownReportedAsNotSent
        /// The outbox takes what a lost channel held for confirmed.
        case outboxForgets
        /// A reply goes to another call.
        case replyToAnotherCall
        /// A transaction that is to be rolled back is committed.
        case rollbackCommits
        /// A change of a value wakes all but one of those who wait.
        case wakeLost
        /// A timer does not fire.
        case timerLost
        /// A full stream is not written to again.
        case roomForgotten

        private static let chosen = Atomic(0)

        /// The fault of this process; nil for none.
        package static var current: DeliberateFault? {
            get { DeliberateFault(rawValue: Self.chosen.load(ordering: .relaxed)) }
            set { Self.chosen.store(newValue?.rawValue ?? 0, ordering: .relaxed) }
        }

        /// Whether the fault happens now: in one of eight cases, by the seed of the simulation.
        package static func happens(_ fault: DeliberateFault) -> Bool {
            guard Self.chosen.load(ordering: .relaxed) == fault.rawValue, SimulationContext.current != nil else {
                return false
            }
            var numbers = RandomNumbers()
            return numbers.next() % 8 == 0
        }
    }
#endif
