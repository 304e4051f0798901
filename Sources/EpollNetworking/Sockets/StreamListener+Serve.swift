// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency

// Serving: one task per connection (HandlerTasks), one accepting task per listening socket. A handler that throws ends its
// own connection and nothing else.
//
// Most connections are idle, each in a task that keeps the frames of its async functions: the task of a handler has no frame
// beside the handler's. Waiting for the end of the peer is left to a second task, made when there is something to wait for.

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
        let serving = Serving(self.gate, handler, onError, tasks)
        let result = await withTaskCancellationHandler { () -> Result<Void, NetworkError> in
            do throws(NetworkError) {
                while let connection = try await self.accept(from: acceptor, onShortage: onError) {
                    guard try await self.gate.enter() else { break }
                    let place = executor == .eventLoop ? connection.eventLoop : inherited
                    serving.start(connection, on: place)
                }
                try await self.gate.waitForEnd(on: acceptor.core.loop)
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
}

/// Shared by the handlers of one listening socket; a task holds a reference to this and to its connection.
private final class Serving: Sendable {
    private let gate: ConnectionGate
    private let handler: @Sendable (StreamConnection) async throws -> Void
    private let onError: (@Sendable (any Error) -> Void)?
    private let tasks: HandlerTasks

    init(
        _ gate: ConnectionGate,
        _ handler: @escaping @Sendable (StreamConnection) async throws -> Void,
        _ onError: (@Sendable (any Error) -> Void)?,
        _ tasks: HandlerTasks
    ) {
        self.gate = gate
        self.handler = handler
        self.onError = onError
        self.tasks = tasks
    }

    func start(_ connection: StreamConnection, on executor: (any TaskExecutor)?) {
        let id = self.tasks.enter()
        let task = Task(executorPreference: executor) {
            do {
                try await self.handler(connection)
                self.handlerReturned(connection)
            } catch {
                self.handlerThrew(error, connection)
            }
            self.tasks.ended(id)
        }
        self.tasks.entered(id, task)
    }

    @inline(never)
    private func handlerThrew(_ error: any Error, _ connection: StreamConnection) {
        connection.bodyThrew()
        self.onError?(error)
        self.gate.leave()
    }

    /// Closes in order; where the peer does not have everything yet, another task waits for that.
    @inline(never)
    private func handlerReturned(_ connection: StreamConnection) {
        do throws(NetworkError) {
            guard let delivery = try connection.core.beginClose() else { return self.gate.leave() }
            let id = self.tasks.enter()
            // Where the handler ran.
            let executor = withUnsafeCurrentTask { $0?.unownedTaskExecutor?.asTaskExecutor() }
            let task = Task(executorPreference: executor) {
                do throws(NetworkError) {
                    try await connection.core.waitForDelivery(delivery)
                } catch {
                    self.onError?(error)
                }
                self.gate.leave()
                self.tasks.ended(id)
            }
            self.tasks.entered(id, task)
        } catch {
            self.onError?(error)
            self.gate.leave()
        }
    }
}
