// SPDX-License-Identifier: Apache-2.0
// InboundChunks: what a connection reads, as an AsyncSequence. Nothing is buffered in between: `next` reads. It keeps the connection:
// what is iterated stays open.

/// The octets that arrive on a connection, in chunks as they come.
public struct InboundChunks: AsyncSequence, Sendable {
    /// The element type.
    public typealias Element = ByteChunk
    /// The error type.
    public typealias Failure = NetworkError

    let connection: StreamConnection

    /// An iterator; use one at a time.
    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(connection: self.connection) }

    /// Reads the chunks.
    public struct AsyncIterator: AsyncIteratorProtocol {
        let connection: StreamConnection

        /// The next octets; nil when the peer has finished.
        public nonisolated(nonsending) mutating func next(
            isolation actor: (any Actor)?
        ) async throws(NetworkError) -> ByteChunk? {
            try await self.connection.core.readChunk(timeout: nil)
        }
    }
}
