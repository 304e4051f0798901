// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// ScratchChannel: a channel for questions the broker may answer by closing it. A new one is opened when the last was
// closed, so one question's 404 does not disturb the next. Used by one task; closed by whoever made it.

struct ScratchChannel: ~Copyable {
    let driver: ConnectionSession
    let deadline: MonotonicTime
    private var current: AMQPChannel?

    init(driver: ConnectionSession, timeout: Duration?) {
        self.driver = driver
        self.deadline = MonotonicTime.now.advanced(by: timeout ?? driver.configuration.operationTimeout)
    }

    /// Time left for the next call.
    var remaining: Duration { max(.nanoseconds(1), self.deadline - MonotonicTime.now) }

    /// Asks on a channel that is open.
    mutating func ask<Answer>(
        _ question: (AMQPChannel, Duration) async throws(AMQPError) -> Answer
    ) async throws(AMQPError) -> Answer {
        let channel: AMQPChannel
        if let current = self.current, current.isOpen {
            channel = current
        } else {
            channel = AMQPChannel(core: try await self.driver.openChannel(timeout: self.remaining))
            self.current = channel
        }
        return try await question(channel, self.remaining)
    }

    /// Gives the channel back; it is closed also when the task is cancelled.
    consuming func close() async {
        guard let current = self.current, current.isOpen else { return }
        await current.core.closeShielded()
    }

    /// Runs `body` with a scratch channel and closes what it leaves open.
    static func with<Answer>(
        _ driver: ConnectionSession,
        timeout: Duration?,
        _ body: (inout ScratchChannel) async throws(AMQPError) -> Answer
    ) async throws(AMQPError) -> Answer {
        var scratch = ScratchChannel(driver: driver, timeout: timeout)
        let answer: Answer
        do throws(AMQPError) {
            answer = try await body(&scratch)
        } catch {
            await scratch.close()
            throw error
        }
        await scratch.close()
        return answer
    }
}
