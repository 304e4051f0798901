// SPDX-License-Identifier: Apache-2.0
public import CEpoll
public import Synchronization

// Locked: a value behind one short lock, the only lock of the package.
// Never suspend, resume a continuation or call user code inside.
// @usableFromInline on the types is what makes the optimiser inline a package method in another module: 6 ns instead
// of 110. For the same reason ShortLock is not nested. The calls for the thread sanitizer are nothing in other builds.
// Unsafe: lock and value lie side by side in memory that the Locked takes with it when it goes, at addresses that do not
// change; it is not copied, so nobody uses them afterwards. The value is touched between lock and unlock only. Who unlocks
// may wake a word that is gone by then: the kernel takes its address for no more than a number, and sleepers bear it.

/// A value reached only while a lock is held.
@frozen @usableFromInline package struct Locked<State: ~Copyable>: ~Copyable, @unchecked Sendable {
    @usableFromInline let lock: ShortLock
    @usableFromInline let state: UnsafeMutablePointer<State>

    @inlinable package init(_ initial: consuming State) {
        let alignment = max(MemoryLayout<State>.alignment, MemoryLayout<ShortLock.Word>.alignment)
        let offset = (MemoryLayout<ShortLock.Word>.size + alignment - 1) & -alignment
        let memory = UnsafeMutableRawPointer.allocate(
            byteCount: offset + MemoryLayout<State>.size,
            alignment: alignment
        )
        self.lock = ShortLock(at: memory)
        self.state = (memory + offset).bindMemory(to: State.self, capacity: 1)
        self.state.initialize(to: initial)
    }

    deinit {
        self.state.deinitialize(count: 1)
        self.lock.end()
        self.lock.word.deallocate()
    }

    /// Runs `body` with the state, alone.
    @inlinable package borrowing func withLock<Result: ~Copyable, Failure: Error>(
        _ body: (inout State) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        self.lock.lock()
        defer { self.lock.unlock() }
        return try body(&self.state.pointee)
    }
}

/// A lock that is held for less than a microsecond, often by the thread that held it before.
///
/// The library's Mutex looks at a lock that is taken without a pause, which takes the lock's line of the cache away from
/// its holder, and hands it over to who sleeps on it: both are dear when tasks on many threads publish on one
/// connection. Here who finds it taken stays away for longer and longer, then sleeps; and whoever comes first takes it.
/// So it changes hands once for many of its uses.
@frozen @usableFromInline package struct ShortLock {
    @usableFromInline typealias Word = Atomic<UInt32>
    /// 0 for free, 1 for taken, 2 for taken and perhaps slept on.
    @usableFromInline let word: UnsafeMutablePointer<Word>

    @inlinable init(at memory: UnsafeMutableRawPointer) {
        self.word = memory.bindMemory(to: Word.self, capacity: 1)
        self.word.initialize(to: Word(0))
        cepoll_lock_created(self.word)
    }

    @inlinable func end() {
        cepoll_lock_destroyed(self.word)
        self.word.deinitialize(count: 1)
    }

    @inlinable func lock() {
        cepoll_lock_taking(self.word)
        if !self.takes(as: 1) { self.lockSlowly() }
        cepoll_lock_taken(self.word)
    }

    @inlinable func unlock() {
        cepoll_lock_releasing(self.word)
        if self.word.pointee.exchange(0, ordering: .releasing) == 2 { self.wakeOne() }
        cepoll_lock_released(self.word)
    }

    @inlinable func takes(as taken: UInt32) -> Bool {
        self.word.pointee.compareExchange(expected: 0, desired: taken, ordering: .acquiring).exchanged
    }

    @usableFromInline func lockSlowly() {
        // Other threads may sleep, too: the next unlock looks for them.
        var taken: UInt32 = 1
        while true {
            // A microsecond, then up to a few: 16 or so together.
            for look in 1...6 {
                for _ in 0..<(32 << min(look, 3)) { cepoll_pause() }
                if self.word.pointee.load(ordering: .relaxed) == 0, self.takes(as: taken) { return }
            }
            taken = 2
            if self.word.pointee.exchange(2, ordering: .acquiring) == 0 { return }
            // Returns at once if it was unlocked meanwhile.
            _ = cepoll_futex_wait(self.word, 2)
        }
    }

    @usableFromInline func wakeOne() { _ = cepoll_futex_wake(self.word) }
}
