// SPDX-License-Identifier: Apache-2.0

// Serving: one task per connection (HandlerTasks), one accepting task per listening socket. A handler that throws ends its
// own connection and nothing else.

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

    /// Accepts connections and runs `handler` for each in a task, until the listener is closed.
    ///
    /// A connection is closed in order when its handler returns, as ``StreamConnection/closeAndFlush()``: an answer arrives
    /// also when the handler has not read everything. It is reset when the handler throws. Cancelling the task that calls
    /// this cancels the handlers, and task-local values are those of that task.
    ///
    /// - Parameters:
    ///   - executor: Where handlers run.
    ///   - onError: Is told what a handler threw, and that an answer was not taken; other connections are not affected. Is
    ///     also told when no connection can be accepted because descriptors have run out.
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

    private func serve(
        _ acceptor: Acceptor,
        _ executor: HandlerExecutor,
        _ onError: (@Sendable (any Error) -> Void)?,
        _ handler: @escaping @Sendable (StreamConnection) async throws -> Void
    ) async -> Result<Void, NetworkError> {
        // Tasks of one's own do not inherit what their creator prefers.
        let inherited = withUnsafeCurrentTask { $0?.unownedTaskExecutor?.asTaskExecutor() }
        let tasks = HandlerTasks()
        let result = await withTaskCancellationHandler { () -> Result<Void, NetworkError> in
            do throws(NetworkError) {
                while let connection = try await self.accept(from: acceptor, onShortage: onError) {
                    guard try await self.gate.enter() else { break }
                    tasks.add(on: executor == .eventLoop ? connection.eventLoop : inherited) {
                        await self.run(handler, connection, onError)
                    }
                }
                let end = self.graceEnd.withLock { $0 }
                try await self.gate.waitForEnd(until: end, on: acceptor.core.loop)
            } catch {
                tasks.cancelAll()
                // The grace period was asked for.
                return error.kind == .timedOut ? .success(()) : .failure(error)
            }
            return .success(())
        } onCancel: {
            tasks.cancelAll()
        }
        await tasks.waitForAll()
        return result
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
