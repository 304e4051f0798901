// SPDX-License-Identifier: Apache-2.0
public import AMQP091Wire

// Orders to misbehave. Each takes effect before it returns.

extension InProcessBroker {
    /// What becomes of publishers' confirms.
    public enum ConfirmOrder: Hashable, Sendable {
        /// The next publishes in confirm mode are refused with `basic.nack` and dropped.
        case nackNext(Int)
        /// The next mandatory publishes are returned (312 NO_ROUTE) and dropped.
        case returnNext(Int)
        /// No confirm is sent until ``release``.
        case hold
        /// Every confirm, also of a refused publish, comes so much later, in order; ``release`` ends it.
        case delay(Duration)
        /// Confirms are sent at once again, those held back or delayed first.
        case release
    }

    /// What befalls one method of a client.
    public enum MethodOrder: Hashable, Sendable {
        /// When the link is dropped.
        public enum Moment: Hashable, Sendable {
            /// Before the method takes effect.
            case before
            /// After it took effect, in the middle of its answer.
            case during
            /// After it took effect and was answered.
            case after
        }

        /// It takes effect, and its answer is lost.
        case loseAnswer
        /// It takes effect and is answered so much later; its connection is not read until then.
        case delay(Duration)
        /// It is refused with this code and reason: the channel is closed, or, for the codes that do, the connection.
        case refuse(ReplyCode, String)
        /// The link is dropped.
        case drop(Moment)
    }

    /// Orders what befalls the next methods of one kind, from whichever client; several orders are obeyed in turn.
    ///
    /// The answer to `basic.publish` is its confirm; to `basic.get`, the message. Methods of the login count too, such
    /// as `connectionStartOk`. `basic.ack` and others without an answer have none to lose.
    ///
    /// - Parameters:
    ///   - method: The kind of method, such as `.queueDeclare`.
    ///   - orders: One for each of the next methods.
    public func onNext(_ method: MethodID, _ orders: MethodOrder...) async {
        _ = await self.onLoop { core in
            for order in orders { core.methodOrders.append(order, for: method) }
        }
    }

    /// Takes back the orders of ``onNext(_:_:)`` that no method has come for.
    public func cancelMethodOrders() async { _ = await self.onLoop { $0.methodOrders.removeAll() } }

    /// From here on clients are sent at most so many octets at a time; nil ends it.
    ///
    /// A piece leaves every millisecond, and on a Unix socket or a socket pair not before the client has read the one
    /// before, so that its reads end where the pieces do.
    ///
    /// - Parameter octets: The size of a piece, 1 or more; with TLS, of the octets before they are encrypted.
    public func splitWrites(every octets: Int?) async {
        _ = await self.onLoop { core in
            core.pieceSize = octets.map { max(1, $0) }
            for connection in core.connections.values { core.touch(connection) }
        }
    }

    /// Drops every client's link without a word, as a crash or a cut cable does.
    ///
    /// - Parameter reason: Not sent; says in the test what is simulated.
    public func dropConnections(_ reason: String = "") async {
        _ = await self.onLoop { core in
            for connection in Array(core.connections.values) { connection.reset() }
        }
    }

    /// Closes every client's connection in order: `connection.close`, 320 CONNECTION_FORCED.
    ///
    /// - Parameter reason: Stands in the reply text, as an operator's does.
    public func closeConnections(_ reason: String = "shutdown") async {
        _ = await self.onLoop { core in
            let refusal = Refusal(.connectionForced, "broker forced connection closure with reason '\(reason)'")
            for connection in Array(core.connections.values) {
                connection.close(refusal.code, refusal.text, nil)
            }
        }
    }

    /// Closes every channel of every client: `channel.close` with this code and text.
    ///
    /// - Parameters:
    ///   - code: The reply code, such as 406.
    ///   - reason: What RabbitMQ would say behind the code's name.
    public func closeChannels(_ code: ReplyCode, _ reason: String) async {
        _ = await self.onLoop { core in
            for connection in Array(core.connections.values) {
                for channel in Array(connection.channels.values) { channel.close(Refusal(code, reason), nil) }
            }
        }
    }

    /// Changes the password of a user, for logins from now on.
    ///
    /// - Parameters:
    ///   - password: The new password; nil removes the user.
    ///   - user: The user.
    public func setPassword(_ password: String?, of user: String) async {
        _ = await self.onLoop { $0.users[user] = password }
    }

    /// Limits the time to acknowledge a delivery, also of those that clients hold already; see
    /// ``Options/consumerTimeout``.
    ///
    /// - Parameter timeout: The time from delivery to acknowledgement, in milliseconds; nil for no limit.
    public func setConsumerTimeout(_ timeout: Duration?) async {
        _ = await self.onLoop { core in
            core.consumerTimeout = timeout?.milliseconds
            for connection in Array(core.connections.values) {
                for channel in Array(connection.channels.values) { channel.watchLateAgain() }
            }
        }
    }

    /// Treats every unacknowledged delivery of a queue as if its time to be acknowledged were over.
    ///
    /// As RabbitMQ 4.3: a consumer of a quorum queue is sent `basic.cancel`, its messages return to the queue, and it
    /// stays in the queue, without deliveries, until the client sends `basic.cancel` or settles what it holds; consumers
    /// of classic queues are not affected. Before 4.3 the channel is closed with 406 PRECONDITION_FAILED, whatever the
    /// type of the queue.
    ///
    /// - Parameters:
    ///   - name: The queue.
    ///   - virtualHost: Its virtual host.
    /// - Returns: False when there is no such queue.
    @discardableResult
    public func timeOutAcknowledgements(of name: String, virtualHost: String = "/") async -> Bool {
        await self.onLoop { core in
            guard let queue = core.virtualHosts[virtualHost]?.queues[name] else { return false }
            for connection in Array(core.connections.values) {
                for channel in Array(connection.channels.values) { channel.checkLate(as: queue) }
            }
            return true
        } ?? false
    }

    /// Orders something about confirms.
    public func confirm(_ order: ConfirmOrder) async {
        _ = await self.onLoop { core in
            switch order {
            case .nackNext(let count): core.confirmOrder.nacks = max(0, count)
            case .returnNext(let count): core.confirmOrder.returns = max(0, count)
            case .hold: core.confirmOrder.areHeld = true
            case .delay(let duration): core.confirmOrder.delay = max(.zero, duration)
            case .release:
                core.confirmOrder.areHeld = false
                core.confirmOrder.delay = .zero
                for connection in core.connections.values { core.touch(connection) }
            }
        }
    }

    /// Raises or clears an alarm: connections that publish under it are sent `connection.blocked` and not read.
    ///
    /// - Parameter reason: As RabbitMQ gives it, `low on memory` or `low on disk`; nil clears the alarm.
    public func setAlarm(_ reason: String?) async {
        _ = await self.onLoop { core in core.orderedAlarm = reason }
    }

    /// Stands still: accepts, reads and writes nothing until ``resume()``; links stay up, without heartbeats.
    public func pause() async { _ = await self.onLoop { $0.freeze(true) } }

    /// Goes on after ``pause()``.
    public func resume() async { _ = await self.onLoop { $0.freeze(false) } }

    /// Whether new links are dropped as soon as they are made.
    public func refuseConnections(_ refused: Bool) async { _ = await self.onLoop { $0.refusesConnections = refused } }

    /// Deletes a queue as an operator does: its consumers get `basic.cancel`.
    ///
    /// - Parameters:
    ///   - name: The queue.
    ///   - virtualHost: Its virtual host.
    /// - Returns: False when there is none.
    @discardableResult
    public func deleteQueue(_ name: String, virtualHost: String = "/") async -> Bool {
        await self.onLoop { core in
            guard let host = core.virtualHosts[virtualHost], let queue = host.queues[name] else { return false }
            host.delete(queue)
            return true
        } ?? false
    }
}
