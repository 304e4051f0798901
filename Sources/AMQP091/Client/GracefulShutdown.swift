// SPDX-License-Identifier: Apache-2.0

#if ServiceLifecycleSupport
    public import ServiceLifecycle
#endif

// GracefulShutdown: the end of a client and its consumers when their service is stopped (trait
// ServiceLifecycleSupport). A consumer is cancelled at the broker, its sequence ends after the delivered messages, handlers
// finish and settle, and its closure returns. Outside a service, and without the trait, it does nothing.

/// Runs `body`, and `stop` when the surrounding service is stopped meanwhile.
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
    /// Makes a client a service: ``AMQPClient/run()`` returns after the group's shutdown, when everything in flight is done.
    ///
    /// Add it to a `ServiceGroup` before the services that use it: they are stopped in reverse order.
    extension AMQPClient: Service {}
#endif
