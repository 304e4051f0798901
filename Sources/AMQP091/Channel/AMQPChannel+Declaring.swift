// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// Declarations: arguments that a broker version does not support, records of declared queues, and the error of a
// declaration that the broker refuses by closing the connection. Not here: the public calls (AMQPChannel+Topology).

extension AMQPChannel {
    /// Declares a queue (`queue.declare`), without arguments that the broker's version misreads.
    func declare(
        queue: Queue.Declare,
        of entity: AMQPTopologyReport.Entity,
        timeout: Duration?
    ) async throws(AMQPError) -> Queue.DeclareOk {
        let driver = self.core.driver
        var declare = queue
        declare.arguments = declare.arguments.queueArguments(for: driver.serverVersion)
        let ok = try await self.declare(declare, of: entity, timeout: timeout)
        driver.noteDeclared(
            ok.queue,
            isQuorum: declare.mayBeQuorum,
            isTemporary: declare.exclusive || declare.autoDelete
        )
        return ok
    }

    /// Declares an exchange or a binding.
    @discardableResult
    func declare<R: Request>(
        _ request: R,
        of entity: AMQPTopologyReport.Entity,
        timeout: Duration?
    ) async throws(AMQPError) -> R.Reply {
        do throws(AMQPError) {
            return try await self.core.call(request, timeout: timeout)
        } catch {
            throw error.refusal(of: entity, declaredBy: request.method)
        }
    }
}

extension FieldTable {
    /// Removes arguments that this version of RabbitMQ misreads.
    ///
    /// A delivery limit of -1 is no limit since 4.0. Before, no limit is the default, and -1 drops a message at its first
    /// return (measured on 3.10.8).
    fileprivate func queueArguments(for version: ServerVersion?) -> FieldTable {
        guard let version, version < ServerVersion(4, 0), let limit = self["x-delivery-limit"]?.integerValue, limit < 0
        else { return self }
        var table = self
        table["x-delivery-limit"] = nil
        return table
    }
}

extension Queue.Declare {
    /// True if it may be a quorum queue, by its type or the virtual host's default type.
    fileprivate var mayBeQuorum: Bool {
        guard self.durable, !self.exclusive, !self.autoDelete else { return false }
        guard let type = self.arguments["x-queue-type"]?.stringValue else { return true }
        return type == "quorum"
    }
}

extension AMQPError {
    /// Returns the error of a declaration that the broker refused by closing the connection; other errors unchanged.
    ///
    /// 503 is an unknown exchange type, 540 something not implemented, 541 a deprecated feature that is not permitted. 541
    /// is also what RabbitMQ says when it fails inside, and then the same declaration may pass later. Other calls of
    /// the connection see the same close; a text that names a feature or a type tells which declaration it blames.
    func refusal(of entity: AMQPTopologyReport.Entity, declaredBy method: Method) -> AMQPError {
        guard self.scope == .connection, self.origin == .broker, self.method == method.id else { return self }
        let isBlamed =
            switch (self.replyCode, method) {
            case (.internalError?, .queueDeclare(let declare)):
                self.replyText.contains("is deprecated")
                    && !(self.replyText.contains("transient_nonexcl_queues") && (declare.durable || declare.exclusive))
            case (.commandInvalid?, .exchangeDeclare(let declare)):
                self.replyText.contains("exchange type") && self.replyText.contains("'\(declare.type)'")
            case (.internalError?, _): self.replyText.contains("is deprecated")
            case (.commandInvalid?, _), (.notImplemented?, _), (.notAllowed?, _): true
            default: false
            }
        guard isBlamed else { return self }
        return AMQPError(
            .topologyRefused,
            "\(entity): \(self.replyText)",
            replyCode: self.replyCode,
            method: self.method,
            scope: .connection,
            origin: .broker
        )
    }
}

extension ConnectionSession {
    /// Maximum number of recorded queues.
    private static let declaredLimit = 4096

    /// Records a queue that was declared on this connection.
    fileprivate func noteDeclared(_ queue: String, isQuorum: Bool, isTemporary: Bool) {
        self.state.withLock { state in
            if isTemporary { state.hasTemporaryQueues = true }
            if isQuorum {
                state.queuesWithoutTimeout.remove(queue)
            } else if state.queuesWithoutTimeout.count < Self.declaredLimit {
                state.queuesWithoutTimeout.insert(queue)
            }
        }
    }
}
