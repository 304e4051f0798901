// SPDX-License-Identifier: Apache-2.0
import Glibc

// ChunkCursor: how far a list of chunks was written, and the vectors of what remains, at most 64 at a time.
// Unsafe: the vectors point into storage that the chunks keep alive, and are gone when `body` returns.

package struct ChunkCursor {
    private static let vectorsPerCall = 64

    private let chunks: [ByteChunk]
    private var index = 0
    private var offset = 0
    private(set) var remaining: Int

    init(_ chunks: [ByteChunk]) {
        self.chunks = chunks
        self.remaining = chunks.reduce(0) { $0 + $1.count }
    }

    // Inlined, the vectors would be 1 KiB in the frame of an async function instead of on the stack, and the block that
    // was taken for it stays as long as the task.
    @inline(never)
    func withVectors<Result>(_ body: (UnsafeBufferPointer<iovec>) -> Result) -> Result {
        withUnsafeTemporaryAllocation(of: iovec.self, capacity: Self.vectorsPerCall) { vectors in
            var count = 0
            var skipped = self.offset
            for chunk in self.chunks[self.index...] where chunk.count > skipped {
                if count == Self.vectorsPerCall { break }
                let start = chunk.storage.base + chunk.offset + skipped
                vectors.initializeElement(at: count, to: iovec(iov_base: start, iov_len: chunk.count - skipped))
                skipped = 0
                count += 1
            }
            return body(UnsafeBufferPointer(rebasing: vectors[..<count]))
        }
    }

    /// Lends the rest of the chunk that is next.
    func withFirst<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        guard self.index < self.chunks.count else { return body(UnsafeRawBufferPointer(start: nil, count: 0)) }
        let chunk = self.chunks[self.index]
        let start = chunk.storage.base + chunk.offset + self.offset
        return body(UnsafeRawBufferPointer(start: start, count: chunk.count - self.offset))
    }

    /// Copies what comes next into `room`, as much as fits; says how many octets.
    func copy(into room: UnsafeMutableRawBufferPointer) -> Int {
        var filled = 0
        var skipped = self.offset
        for chunk in self.chunks[self.index...] where chunk.count > skipped {
            let count = min(chunk.count - skipped, room.count - filled)
            if count == 0 { break }
            let source = UnsafeRawBufferPointer(start: chunk.storage.base + chunk.offset + skipped, count: count)
            UnsafeMutableRawBufferPointer(rebasing: room[filled...]).copyMemory(from: source)
            filled += count
            skipped = 0
        }
        return filled
    }

    mutating func advance(_ count: Int) {
        self.remaining -= count
        self.offset += count
        while self.index < self.chunks.count, self.offset >= self.chunks[self.index].count {
            self.offset -= self.chunks[self.index].count
            self.index += 1
        }
    }
}
