// SPDX-License-Identifier: Apache-2.0
#if AMQP091_PTHREAD_LOCKS
    public import Glibc
#else
    public import Synchronization
#endif

// Locked: a value behind one short lock, the only lock of the package.
// Ordinary builds use Mutex. Under -D AMQP091_PTHREAD_LOCKS it is a pthread mutex, because the thread sanitizer
// reports false races through Mutex. Never suspend, resume a continuation or call user code inside.
// @usableFromInline on the types is what makes the optimiser inline a package method in another module: 6 ns instead
// of 110. For the same reason LockedValue is not nested.

#if AMQP091_PTHREAD_LOCKS

    /// A value reached only while a lock is held.
    @frozen @usableFromInline package struct Locked<State: ~Copyable>: ~Copyable, @unchecked Sendable {
        @usableFromInline let mutex: UnsafeMutablePointer<pthread_mutex_t>
        @usableFromInline let state: UnsafeMutablePointer<State>

        @inlinable package init(_ initial: consuming State) {
            self.mutex = .allocate(capacity: 1)
            self.mutex.initialize(to: pthread_mutex_t())
            pthread_mutex_init(self.mutex, nil)
            self.state = .allocate(capacity: 1)
            self.state.initialize(to: initial)
        }

        deinit {
            self.state.deinitialize(count: 1)
            self.state.deallocate()
            pthread_mutex_destroy(self.mutex)
            self.mutex.deallocate()
        }

        /// Runs `body` with the state, alone.
        @inlinable package borrowing func withLock<Result: ~Copyable, Failure: Error>(
            _ body: (inout State) throws(Failure) -> Result
        ) throws(Failure) -> Result {
            pthread_mutex_lock(self.mutex)
            defer { pthread_mutex_unlock(self.mutex) }
            return try body(&self.state.pointee)
        }
    }

#else

    /// Takes the state out of region checking: the lock, not its region, is what makes it safe.
    @frozen @usableFromInline package struct LockedValue<Value: ~Copyable>: ~Copyable, @unchecked Sendable {
        @usableFromInline var value: Value
        @inlinable init(_ value: consuming Value) { self.value = value }
        @inlinable consuming func take() -> Value { self.value }
    }

    /// A value reached only while a lock is held.
    @frozen @usableFromInline package struct Locked<State: ~Copyable>: ~Copyable, @unchecked Sendable {
        @usableFromInline let mutex: Mutex<LockedValue<State>>

        @inlinable package init(_ initial: consuming State) {
            self.mutex = Mutex(LockedValue(initial))
        }

        /// Runs `body` with the state, alone.
        @inlinable package borrowing func withLock<Result: ~Copyable, Failure: Error>(
            _ body: (inout State) throws(Failure) -> Result
        ) throws(Failure) -> Result {
            try self.mutex.withLock { (state) throws(Failure) -> LockedValue<Result> in
                LockedValue<Result>(try body(&state.value))
            }.take()
        }
    }

#endif
