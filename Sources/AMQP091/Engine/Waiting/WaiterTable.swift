// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollConcurrency
import EpollNetworking
import Synchronization

// WaiterTable: the tasks that wait on one connection, each in a slot that is resolved exactly once.
// A cancelled or timed-out task leaves its slot behind as a tombstone: the machine that holds the slot's token still
// answers it one day, and that answer is swallowed. Guarded by the connection's lock; continuations are resumed by the
// caller after it has unlocked.

/// What a waiting task is woken with.
enum WaitResult: Sendable {
    /// The reply of the broker.
    case reply(Method)
    /// A delivery or nothing, the reply of `basic.get`.
    case message(AMQPDelivery?)
    /// There may be room now: try again.
    case room
    /// The outcome of a publish.
    case outcome(PublishOutcome)
    /// The wait failed.
    case failed(AMQPError)
}

extension WaitResult {
    /// How the confirms of a channel wake a task.
    init(_ wake: ConfirmTracker.Wake) {
        switch wake {
        case .progress: self = .room
        case .outcome(let outcome): self = .outcome(outcome)
        }
    }
}

/// How a publish ended, as the broker told it.
typealias PublishOutcome = ConfirmRing.Outcome

typealias Waiter = Suspension<WaitResult>

/// A task to resume, collected under the lock and resumed after it.
struct Resumption: Sendable {
    let waiter: Waiter
    let result: WaitResult
    func resume() { self.waiter.resume(returning: self.result) }
}

/// Links one call to its slot, so that a cancellation finds it.
final class WaitHandle: CancellableWait, @unchecked Sendable {
    /// Kept by the caller for as long as it waits, and asked for nothing afterwards.
    private unowned(unsafe) let driver: ConnectionSession
    // Guarded by the connection's lock.
    var token: UInt32 = 0
    private(set) var isCancelled = false

    init(driver: ConnectionSession) { self.driver = driver }

    /// As it was made, for another wait.
    func reset() {
        self.token = 0
        self.isCancelled = false
    }

    func taskCancelled() {
        let waiter = self.driver.state.withLock { state -> Waiter? in
            self.isCancelled = true
            return self.token == 0 ? nil : state.waiters.abandon(self.token)
        }
        waiter?.resume(returning: .failed(ConnectionSession.cancelled(safe: false)))
    }
}

/// A handle that no wait uses, so that a call that waits again and again allocates nothing.
///
/// Any thread. Unsafe: the reference is an unmanaged one, because only that is atomic; whoever exchanges it owns it.
struct SpareHandle: ~Copyable {
    private let handle = Atomic<Unmanaged<WaitHandle>?>(nil)

    func take() -> WaitHandle? { self.handle.exchange(nil, ordering: .acquiring)?.takeRetainedValue() }

    /// Keeps one, in the place of what is kept.
    func keep(_ handle: WaitHandle) {
        handle.reset()
        self.handle.exchange(.passRetained(handle), ordering: .acquiringAndReleasing)?.release()
    }

    deinit { self.handle.load(ordering: .acquiring)?.release() }
}

struct WaiterTable: ~Copyable {
    private struct Slot {
        var waiter: Waiter?
        var deadline = UInt64.max
        var isUsed = false
        /// The token of the next one that is free, 0 for none.
        var nextFree: UInt32 = 0
    }

    private var slots: [Slot] = []
    /// The token of a free slot, 0 for none.
    private var firstFree: UInt32 = 0
    /// Tasks waiting now; tombstones are not counted.
    private(set) var count = 0

    /// Takes a slot; its token is never 0.
    mutating func add(_ waiter: Waiter, deadline: UInt64) -> UInt32 {
        self.count += 1
        let slot = Slot(waiter: waiter, deadline: deadline, isUsed: true)
        let token = self.firstFree
        if token != 0 {
            self.firstFree = self.slots[Int(token) - 1].nextFree
            self.slots[Int(token) - 1] = slot
            return token
        }
        self.slots.append(slot)
        return UInt32(self.slots.count)
    }

    /// The machine that held the token is done with it: frees the slot; nil when the task gave up earlier.
    mutating func finish(_ token: UInt32) -> Waiter? {
        let index = Int(token) - 1
        guard self.slots.indices.contains(index), self.slots[index].isUsed else { return nil }
        let waiter = self.slots[index].waiter
        if waiter != nil { self.count -= 1 }
        self.slots[index] = Slot(nextFree: self.firstFree)
        self.firstFree = token
        return waiter
    }

    /// The task gives up; the token stays taken until `finish`.
    mutating func abandon(_ token: UInt32) -> Waiter? {
        let index = Int(token) - 1
        guard self.slots.indices.contains(index), let waiter = self.slots[index].waiter else { return nil }
        self.slots[index].waiter = nil
        self.slots[index].deadline = .max
        self.count -= 1
        return waiter
    }

    /// Whether the token's task has given up and nothing has answered it since.
    func isTombstone(_ token: UInt32) -> Bool {
        let index = Int(token) - 1
        return self.slots.indices.contains(index) && self.slots[index].isUsed && self.slots[index].waiter == nil
    }

    /// Abandons every slot whose deadline has passed and says when the next one will.
    mutating func expire(now: UInt64, each: (UInt32, Waiter) -> Void) -> UInt64? {
        var next: UInt64?
        guard self.count > 0 else { return nil }
        for index in self.slots.indices {
            guard let waiter = self.slots[index].waiter else { continue }
            let deadline = self.slots[index].deadline
            if deadline <= now {
                self.slots[index].waiter = nil
                self.count -= 1
                each(UInt32(index + 1), waiter)
            } else if deadline < next ?? .max {
                next = deadline
            }
        }
        return next
    }

    /// Ends every wait, at the end of the connection.
    mutating func removeAll(each: (Waiter) -> Void) {
        for slot in self.slots {
            if let waiter = slot.waiter { each(waiter) }
        }
        self.slots = []
        self.firstFree = 0
        self.count = 0
    }
}
