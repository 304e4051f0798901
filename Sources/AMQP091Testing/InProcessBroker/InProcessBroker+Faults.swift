// SPDX-License-Identifier: Apache-2.0
public import AMQP091Wire

// Fault injection. Each call takes effect before it returns.

extension InProcessBroker {
    /// The treatment of publisher confirms.
    public enum ConfirmOrder: Hashable, Sendable {
        /// Nacks and drops the next publishes in confirm mode.
        case nackNext(Int)
        /// Returns (312 NO_ROUTE) and drops the next mandatory publishes.
        case returnNext(Int)
        /// Holds all confirms until ``release``.
        case hold
        /// Delays every confirm, nacks included, in order, until ``release``.
        case delay(Duration)
        /// Sends confirms at once again, held and delayed ones first.
        case release
    }

    /// A fault of one method of a client.
    public enum MethodOrder: Hashable, Sendable {
        /// The moment at which the link is dropped.
        public enum Moment: Hashable, Sendable {
            /// Before the method takes effect.
            case before
            /// After it took effect, in the middle of its reply.
            case during
            /// After it took effect and its reply was sent.
            case after
        }

        /// The method takes effect, and its reply is lost.
        case loseAnswer
        /// The method takes effect, and its reply is delayed; its connection is not read until then.
        case delay(Duration)
        /// The method is refused with this code and reason: the channel is closed, or the connection for hard codes.
        case refuse(ReplyCode, String)
        /// The link is dropped.
        case drop(Moment)
    }

    /// Injects faults into the next methods of one kind from any client; several faults apply in turn.
    ///
    /// The reply to `basic.publish` is its confirm; to `basic.get`, the message. Methods of the login count, too, such
    /// as `connectionStartOk`. `basic.ack` and other methods without a reply have none to lose.
    ///
    /// - Parameters:
    ///   - method: The kind of method, such as `.queueDeclare`.
    ///   - orders: One fault for each of the next methods.
    public func onNext(_ method: MethodID, _ orders: MethodOrder...) async {
        _ = await self.onLoop { core in
            for order in orders { core.methodOrders.append(order, for: method) }
        }
    }

    /// Removes the faults of ``onNext(_:_:)`` that were not used.
    public func cancelMethodOrders() async { _ = await self.onLoop { $0.methodOrders.removeAll() } }

    /// Splits writes to clients into pieces of at most this many octets; nil ends it.
    ///
    /// A piece is sent every millisecond, and on a Unix socket or a socket pair after the client has read the one
    /// before, so that the client's reads end where the pieces do.
    ///
    /// - Parameter octets: The size of a piece, 1 or more; with TLS, of the octets before they are encrypted.
    public func splitWrites(every octets: Int?) async {
        _ = await self.onLoop { core in
            core.pieceSize = octets.map { max(1, $0) }
            for connection in core.connectionsInOrder { core.touch(connection) }
        }
    }

    /// Drops every client's link without a close, as a crash or a cut cable does.
    ///
    /// - Parameter reason: The simulated cause; not sent.
    public func dropConnections(_ reason: String = "") async {
        _ = await self.onLoop { core in
            for connection in core.connectionsInOrder { connection.reset() }
        }
    }

    /// Crashes the broker and starts it again at once: every link is dropped; transient queues, exchanges and messages are
    /// gone, as are exclusive queues.
    ///
    /// Persistent messages of durable queues stay; unacknowledged deliveries are delivered again.
    public func restart() async {
        _ = await self.onLoop { core in
            for connection in core.connectionsInOrder { connection.reset() }
            for host in core.virtualHosts.values.sorted(by: { $0.name < $1.name }) { host.lose() }
        }
    }

    /// Closes every client's connection in order: `connection.close`, 320 CONNECTION_FORCED.
    ///
    /// - Parameter reason: The operator's reason in the reply text.
    public func closeConnections(_ reason: String = "shutdown") async {
        _ = await self.onLoop { core in
            let refusal = Refusal(.connectionForced, "broker forced connection closure with reason '\(reason)'")
            for connection in core.connectionsInOrder {
                connection.close(refusal.code, refusal.text, nil)
            }
        }
    }

    /// Closes every channel of every client: `channel.close` with this code and text.
    ///
    /// - Parameters:
    ///   - code: The reply code, such as 406.
    ///   - reason: The reply text after the code's name.
    public func closeChannels(_ code: ReplyCode, _ reason: String) async {
        _ = await self.onLoop { core in
            for connection in core.connectionsInOrder {
                for channel in core.inOrder(connection.channels) { channel.close(Refusal(code, reason), nil) }
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

    /// Limits the time to acknowledge a delivery, also for current unacknowledged deliveries; see
    /// ``Options/consumerTimeout``.
    ///
    /// - Parameter timeout: The time from delivery to acknowledgement, in milliseconds; nil for no limit.
    public func setConsumerTimeout(_ timeout: Duration?) async {
        _ = await self.onLoop { core in
            core.consumerTimeout = timeout?.milliseconds
            for connection in core.connectionsInOrder {
                for channel in core.inOrder(connection.channels) { channel.watchLateAgain() }
            }
        }
    }

    /// Times out every unacknowledged delivery of a queue at once.
    ///
    /// As with RabbitMQ 4.3: a consumer of a quorum queue is sent `basic.cancel`, its messages are requeued, and it
    /// stays in the queue, without deliveries, until the client sends `basic.cancel` or settles its deliveries; consumers
    /// of classic queues are not affected. Before 4.3 the channel is closed with 406 PRECONDITION_FAILED, whatever the
    /// type of the queue.
    ///
    /// - Parameters:
    ///   - name: The queue.
    ///   - virtualHost: Its virtual host.
    /// - Returns: False if there is no such queue.
    @discardableResult
    public func timeOutAcknowledgements(of name: String, virtualHost: String = "/") async -> Bool {
        await self.onLoop { core in
            guard let queue = core.virtualHosts[virtualHost]?.queues[name] else { return false }
            for connection in core.connectionsInOrder {
                for channel in core.inOrder(connection.channels) { channel.checkLate(as: queue) }
            }
            return true
        } ?? false
    }

    /// Changes the treatment of confirms.
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
                for connection in core.connectionsInOrder { core.touch(connection) }
            }
        }
    }

    /// Raises or clears an alarm: connections that publish meanwhile are sent `connection.blocked` and not read.
    ///
    /// - Parameter reason: RabbitMQ's reason, `low on memory` or `low on disk`; nil clears the alarm.
    public func setAlarm(_ reason: String?) async {
        _ = await self.onLoop { core in core.orderedAlarm = reason }
    }

    /// Freezes the broker: it accepts, reads and writes nothing until ``resume()``; links stay up, without heartbeats.
    public func pause() async { _ = await self.onLoop { $0.freeze(true) } }

    /// Resumes after ``pause()``.
    public func resume() async { _ = await self.onLoop { $0.freeze(false) } }

    /// Sets whether new links are dropped at once.
    public func refuseConnections(_ refused: Bool) async { _ = await self.onLoop { $0.refusesConnections = refused } }

    /// Deletes a queue as an operator does: its consumers get `basic.cancel`.
    ///
    /// - Parameters:
    ///   - name: The queue.
    ///   - virtualHost: Its virtual host.
    /// - Returns: False if there is no such queue.
    @discardableResult
    public func deleteQueue(_ name: String, virtualHost: String = "/") async -> Bool {
        await self.onLoop { core in
            guard let host = core.virtualHosts[virtualHost], let queue = host.queues[name] else { return false }
            host.delete(queue)
            return true
        } ?? false
    }
}
