// SPDX-License-Identifier: Apache-2.0

// Serving: one child task per connection, in a discarding task group per listening socket. A handler that throws ends
// its own connection and nothing else.

extension StreamListener {
    /// Where the handlers of a listener run.
    public enum HandlerExecutor: Sendable {
        /// Where the caller of `serve` runs: the global pool, unless it prefers another executor.
        case inherited
        /// On the thread of the connection's own loop: no change of threads between socket and handler.
        ///
        /// The handler must not block: it would hold up every connection of the loop.
        case eventLoop
    }

    /// Accepts connections and runs `handler` for each in a child task, until the listener is closed.
    ///
    /// A connection is closed when its handler returns, and reset when it throws. Cancelling the task that calls this
    /// cancels the handlers.
    ///
    /// - Parameters:
    ///   - executor: Where handlers run.
    ///   - onError: Is told what a handler threw; other connections are not affected.
    ///   - handler: Serves one connection.
    /// - Throws: ``NetworkError`` when accepting itself fails, or the task was cancelled; when it returns or throws, no
    ///   handler runs any more.
    public func serve(
        on executor: HandlerExecutor = .inherited,
        onError: (@Sendable (any Error) -> Void)? = nil,
        _ handler: @escaping @Sendable (StreamConnection) async throws -> Void
    ) async throws(NetworkError) {
        let result = await withTaskGroup(of: Result<Void, NetworkError>.self) { group in
            for acceptor in self.acceptors {
                group.addTask(executorPreference: executor == .eventLoop ? acceptor.core.loop : nil) {
                    await self.serve(acceptor, executor, onError, handler)
                }
            }
            var first = Result<Void, NetworkError>.success(())
            for await result in group {
                guard case .failure = result, case .success = first else { continue }
                first = result
                group.cancelAll()
            }
            return first
        }
        try result.get()
    }

    /// Accepts this many connections before other tasks of the same thread get their turn.
    private static let acceptsPerTurn = 64

    private func serve(
        _ acceptor: Acceptor,
        _ executor: HandlerExecutor,
        _ onError: (@Sendable (any Error) -> Void)?,
        _ handler: @escaping @Sendable (StreamConnection) async throws -> Void
    ) async -> Result<Void, NetworkError> {
        // A throwing group, although nothing is thrown: the other kind wraps each child into one that may throw, and
        // the frames of that take memory as long as the connection lives.
        let result = try? await withThrowingDiscardingTaskGroup { group -> Result<Void, NetworkError> in
            do throws(NetworkError) {
                var budget = Self.acceptsPerTurn
                while let connection = try await self.accept(from: acceptor) {
                    guard try await self.gate.enter() else { break }
                    let loop = executor == .eventLoop ? connection.eventLoop : nil
                    group.addTask(executorPreference: loop) {
                        await self.run(handler, connection, onError)
                    }
                    budget -= 1
                    if budget == 0 {
                        budget = Self.acceptsPerTurn
                        await Task.yield()
                    }
                }
                let end = self.graceEnd.withLock { $0 }
                try await self.gate.waitForEnd(until: end, on: acceptor.core.loop)
            } catch {
                group.cancelAll()
                // What the grace period cut off was asked for.
                return error.kind == .timedOut ? .success(()) : .failure(error)
            }
            return .success(())
        }
        return result ?? .success(())
    }

    private func run(
        _ handler: @Sendable (StreamConnection) async throws -> Void,
        _ connection: StreamConnection,
        _ onError: (@Sendable (any Error) -> Void)?
    ) async {
        do {
            try await connection.scoped(handler)
        } catch {
            onError?(error)
        }
        self.gate.leave()
    }
}
