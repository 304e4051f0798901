// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

#if ServiceLifecycleSupport
    import ServiceLifecycle
#endif

// GracefulShutdown: what a consumer does when the service it runs in is told to stop (trait ServiceLifecycleSupport): it
// is cancelled at the broker, its sequence ends behind what was delivered, handlers finish and settle, and its closure
// returns. Outside of a service, and without the trait, nothing is done.

extension ChannelCore {
    /// Runs `body`, and ends the consumer early when the surrounding service is to stop.
    nonisolated(nonsending) func endingGracefully<Result>(
        _ inbox: ConsumerInbox,
        _ body: nonisolated(nonsending) () async throws -> Result
    ) async throws -> Result {
        #if ServiceLifecycleSupport
            try await withGracefulShutdownHandler {
                try await body()
            } onGracefulShutdown: {
                Task { try? await self.cancel(inbox, timeout: nil) }
            }
        #else
            try await body()
        #endif
    }
}
