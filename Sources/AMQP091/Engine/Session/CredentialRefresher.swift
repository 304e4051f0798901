// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import EpollConcurrency
import EpollNetworking
import Logging

// CredentialRefresher: credentials that expire. A provider is asked before the login, and again before its credentials
// expire; the second happens in a task that sleeps on the loop's timers and ends with the connection.
// Not here: the method that hands over a secret (ConnectionSession.updateSecret).

struct CredentialRefresher {
    let session: ConnectionSession

    /// The shortest pause before the provider is asked again.
    private static let shortestPause = Duration.milliseconds(100)

    /// Asks the provider of credentials, where there is one, until the deadline.
    static func resolved(
        _ authentication: AMQPAuthentication,
        until deadline: MonotonicTime,
        on loop: EventLoop
    ) async throws(AMQPError) -> AMQPAuthentication {
        guard authentication.provider != nil else { return authentication }
        let result = await withTaskGroup(of: Result<AMQPAuthentication, AMQPError>?.self) { group in
            group.addTask {
                do throws(AMQPError) { return .success(try await authentication.resolved()) } catch {
                    return .failure(error)
                }
            }
            group.addTask {
                try? await loop.sleep(until: deadline)
                return nil
            }
            defer { group.cancelAll() }
            return await group.next() ?? nil
        }
        guard let result else {
            throw Task.isCancelled
                ? ConnectionSession.cancelled(safe: true)
                : AMQPError(.timedOut, "the credentials provider did not answer in time", isSafeToRetry: true)
        }
        return try result.get()
    }

    /// Keeps the credentials of the login fresh, if they expire.
    func start() {
        guard let expiry = self.session.configuration.authentication.expiry else { return }
        let task = Task { await self.refresh(expiringAt: expiry) }
        let isOver = self.session.state.withLock { state -> Bool in
            if state.hasFailed { return true }
            state.refreshing = task
            return false
        }
        if isOver { task.cancel() }
    }

    /// Ends with the connection, or when the provider gives a password that does not expire.
    private func refresh(expiringAt expiry: MonotonicTime) async {
        var expiry = expiry
        var pause = (expiry - .now) * 4 / 5
        while true {
            do throws(NetworkError) {
                try await self.session.loop.sleep(for: max(Self.shortestPause, pause))
            } catch { return }
            do throws(AMQPError) {
                let deadline = MonotonicTime.now.advanced(by: self.session.configuration.connectTimeout)
                let authentication = self.session.configuration.authentication
                let fresh = try await Self.resolved(authentication, until: deadline, on: self.session.loop)
                try await self.session.updateSecret(
                    fresh.password,
                    reason: "credentials refreshed",
                    self.session.deadline(nil)
                )
                self.session.logger.debug("credentials refreshed")
                guard let next = fresh.expiry else { return }
                expiry = next
                pause = (expiry - .now) * 4 / 5
            } catch {
                if !self.session.state.withLock({ $0.isOpen }) { return }
                let left = expiry - .now
                self.session.logger.warning(
                    "credentials were not refreshed",
                    metadata: ["error": "\(error)", "seconds_left": "\(max(0, left.components.seconds))"]
                )
                pause = min(.seconds(30), max(.seconds(1), left / 5))
            }
        }
    }
}
