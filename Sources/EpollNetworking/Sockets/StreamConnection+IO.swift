// SPDX-License-Identifier: Apache-2.0
// Reading and writing, as users call it.

extension StreamConnection {
    /// What arrives, as a sequence of chunks for one task at a time.
    ///
    /// Nothing is read ahead: the peer is held back by a reader that takes its time. The sequence keeps the connection. It
    /// ends when the peer has
    /// finished, and throws ``NetworkError`` when the connection breaks or ``SocketOptions/readTimeout`` passes.
    public var inbound: InboundChunks { InboundChunks(connection: self) }

    /// Waits for octets and returns them as they came.
    ///
    /// - Parameter timeout: How long to wait; nil takes ``SocketOptions/readTimeout``.
    /// - Returns: 1 to 65,536 octets, or nil when the peer has finished.
    /// - Throws: ``NetworkError``; after `.timedOut` and `.cancelled` nothing is lost, and reading can go on.
    public func read(timeout: Duration? = nil) async throws(NetworkError) -> ByteChunk? {
        try await self.core.readChunk(timeout: timeout)
    }

    /// Waits for octets and appends them to the caller's buffer.
    ///
    /// - Parameters:
    ///   - buffer: Gets as many octets as there are, at most its free capacity.
    ///   - timeout: How long to wait; nil takes ``SocketOptions/readTimeout``.
    /// - Returns: How many octets were appended; 0 when the peer has finished, or the buffer is full.
    /// - Throws: ``NetworkError``; after `.timedOut` and `.cancelled` nothing is lost, and reading can go on.
    @discardableResult
    public func read(
        into buffer: inout OutputRawSpan,
        timeout: Duration? = nil
    ) async throws(NetworkError) -> Int {
        try await self.core.read(into: &buffer, timeout: timeout)
    }

    /// Reads until there are exactly so many octets.
    ///
    /// - Parameters:
    ///   - count: How many, at least 0; the caller bounds what the peer may ask for.
    ///   - timeout: How long each part may take; nil takes ``SocketOptions/readTimeout``.
    /// - Returns: The octets; nil when the peer had finished before the first.
    /// - Throws: ``NetworkError``: `.reset` when the peer finished in the middle. The octets read until then are lost,
    ///   also after `.timedOut` and `.cancelled`.
    public func read(exactly count: Int, timeout: Duration? = nil) async throws(NetworkError) -> [UInt8]? {
        try await self.core.read(exactly: count, timeout: timeout)
    }

    /// Writes octets; returns when the kernel has taken all.
    ///
    /// - Parameters:
    ///   - octets: Borrowed until the call returns.
    ///   - timeout: How long to wait while the peer takes nothing; nil takes ``SocketOptions/writeTimeout``. A peer that
    ///     takes octets slowly is no reason to give up.
    ///   - total: How long the call may take in all; nil is without limit.
    /// - Throws: ``NetworkError``. After `.timedOut` and `.cancelled`, ``NetworkError/leavesConnectionUsable`` tells
    ///   whether nothing was written; otherwise the writing half is ended, because the rest is missing, and the peer reads
    ///   the end of the stream (with TLS: an end that was cut off).
    public func write(
        _ octets: RawSpan,
        timeout: Duration? = nil,
        within total: Duration? = nil
    ) async throws(NetworkError) {
        try await self.core.write(octets, self.core.limit(timeout, total))
    }

    /// Writes octets; as the form with a span.
    public func write(
        _ octets: [UInt8],
        timeout: Duration? = nil,
        within total: Duration? = nil
    ) async throws(NetworkError) {
        try await self.core.write(octets.span.bytes, self.core.limit(timeout, total))
    }

    /// Writes a chunk; as the form with a span.
    public func write(
        _ chunk: ByteChunk,
        timeout: Duration? = nil,
        within total: Duration? = nil
    ) async throws(NetworkError) {
        try await self.core.write(chunk.bytes, self.core.limit(timeout, total))
    }

    /// Writes the UTF-8 octets of a text; as the form with a span.
    public func write(
        _ text: String,
        timeout: Duration? = nil,
        within total: Duration? = nil
    ) async throws(NetworkError) {
        try await self.core.write(text.utf8Span.span.bytes, self.core.limit(timeout, total))
    }

    /// Writes several chunks one after the other, with as few system calls as the kernel allows.
    ///
    /// No other write comes in between. Otherwise as the form with a span.
    public func write(
        _ chunks: [ByteChunk],
        timeout: Duration? = nil,
        within total: Duration? = nil
    ) async throws(NetworkError) {
        try await self.core.write(chunks, self.core.limit(timeout, total))
    }
}
