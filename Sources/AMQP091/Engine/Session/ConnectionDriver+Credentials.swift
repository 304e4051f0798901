// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import DequeModule
import EpollNetworking
import Logging

// Credentials that expire: a provider is asked before the login, and again before what it gave expires. The second
// happens in a task that sleeps on the loop's timers and ends with the connection.

extension ConnectionDriver {
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
                ? Self.cancelled(safe: true)
                : AMQPError(.timedOut, "the credentials provider did not answer in time", isSafeToRetry: true)
        }
        return try result.get()
    }

    /// Begins to keep the credentials of the login fresh, if they expire.
    func keepCredentialsFresh() {
        guard let expiry = self.configuration.authentication.expiry else { return }
        let task = Task { await self.refreshCredentials(expiringAt: expiry) }
        let isOver = self.state.withLock { state -> Bool in
            if state.hasFailed { return true }
            state.refreshing = task
            return false
        }
        if isOver { task.cancel() }
    }

    /// Ends with the connection, or when the provider gives a password that does not expire.
    private func refreshCredentials(expiringAt expiry: MonotonicTime) async {
        var expiry = expiry
        var pause = (expiry - .now) * 4 / 5
        while true {
            do throws(NetworkError) {
                try await self.loop.sleep(for: max(Self.shortestPause, pause))
            } catch { return }
            do throws(AMQPError) {
                let deadline = MonotonicTime.now.advanced(by: self.configuration.connectTimeout)
                let fresh = try await Self.resolved(self.configuration.authentication, until: deadline, on: self.loop)
                try await self.updateSecret(fresh.password, reason: "credentials refreshed", self.deadline(nil))
                self.logger.debug("credentials refreshed")
                guard let next = fresh.expiry else { return }
                expiry = next
                pause = (expiry - .now) * 4 / 5
            } catch {
                if !self.state.withLock({ $0.isOpen }) { return }
                let left = expiry - .now
                self.logger.warning(
                    "credentials were not refreshed",
                    metadata: ["error": "\(error)", "seconds_left": "\(max(0, left.components.seconds))"]
                )
                pause = min(.seconds(30), max(.seconds(1), left / 5))
            }
        }
    }

    /// `connection.update-secret`, until the deadline.
    func updateSecret(_ secret: String, reason: String, _ deadline: UInt64) async throws(AMQPError) {
        let update = Method.connectionUpdateSecret(.init(newSecret: Array(secret.utf8), reason: reason))
        _ = try await self.wait(deadline: deadline) { state, _, token throws(AMQPError) in
            try state.requireOpen()
            let start = state.outbound.fill.count
            do throws(WireError) {
                try update.encodeFrame(
                    channel: ChannelNumber(rawValue: 0),
                    into: &state.outbound.fill,
                    maximumFrameSize: state.maximumPayload + 8
                )
            } catch {
                state.outbound.fill.truncate(to: start)
                throw .invalidArgument(error, in: update)
            }
            state.secretWaiters.append(token)
            return state.outbound.scheduleFlush()
        }
        self.state.withLock { $0.updatedSecret = secret }
    }

    /// `connection.update-secret-ok`: the oldest call is answered.
    func secretUpdated() {
        let waiter = self.state.withLock { state in
            state.secretWaiters.popFirst().flatMap { state.waiters.finish($0) }
        }
        waiter?.resume(returning: .reply(.connectionUpdateSecretOk(.init())))
    }
}
