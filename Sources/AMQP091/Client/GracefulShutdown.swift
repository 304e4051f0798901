// SPDX-License-Identifier: Apache-2.0

#if ServiceLifecycleSupport
    public import ServiceLifecycle
#endif

// GracefulShutdown: what becomes of a client and its consumers when the service they run in is told to stop (trait
// ServiceLifecycleSupport). A consumer is cancelled at the broker, its sequence ends behind what was delivered, handlers
// finish and settle, and its closure returns. Outside of a service, and without the trait, nothing is done.

/// Runs `body`; meanwhile, when the surrounding service is to stop, also `stop`.
nonisolated(nonsending) func whenGracefullyShutDown<Result>(
    _ stop: @escaping @Sendable () async -> Void,
    during body: nonisolated(nonsending) () async throws -> Result
) async rethrows -> Result {
    #if ServiceLifecycleSupport
        try await withGracefulShutdownHandler {
            try await body()
        } onGracefulShutdown: {
            Task { await stop() }
        }
    #else
        try await body()
    #endif
}

#if ServiceLifecycleSupport
    /// A client is a service: ``AMQPClient/run()`` returns when the group shuts down and everything in flight is done.
    ///
    /// Give it to a `ServiceGroup` before the services that use it: they are told to stop in the reverse order.
    extension AMQPClient: Service {}
#endif
