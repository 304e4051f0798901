// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency

// ChunkStorage: the memory a ByteChunk points into, and the pool that a loop's connections draw it from.
// Unsafe: owns one raw allocation for its lifetime. It is written only while uniquely referenced (a read fills it
// before any chunk is made of it, and takes it again only when every chunk is gone); from then on it is only read.

@usableFromInline final class ChunkStorage: @unchecked Sendable {
    @usableFromInline let base: UnsafeMutableRawPointer
    let capacity: Int

    init(capacity: Int) {
        self.base = .allocate(byteCount: max(1, capacity), alignment: 16)
        self.capacity = capacity
    }

    deinit { self.base.deallocate() }

    var room: UnsafeMutableRawBufferPointer { UnsafeMutableRawBufferPointer(start: self.base, count: self.capacity) }
}

/// Storage to read into, used again last in first out, so that it is still in the cache.
final class ChunkPool: Sendable {
    /// What one read takes at most.
    static let chunkSize = 64 << 10
    /// Idle storage kept: 1 MiB per loop.
    private static let limit = 16

    private let idle = Locked<[ChunkStorage]>([])

    func take() -> ChunkStorage {
        self.idle.withLock { $0.popLast() } ?? ChunkStorage(capacity: Self.chunkSize)
    }

    /// Keeps storage for the next read, unless somebody still looks at it.
    func release(_ storage: consuming ChunkStorage) {
        var storage = storage
        guard isKnownUniquelyReferenced(&storage) else { return }
        self.idle.withLock { if $0.count < Self.limit { $0.append(storage) } }
    }
}
