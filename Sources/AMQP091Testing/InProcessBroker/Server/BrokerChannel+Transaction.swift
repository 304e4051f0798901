// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

// Transactions (class tx): publishes and settlements are kept until commit, or discarded at rollback.

struct Transaction {
    var publishes: [(message: Message, route: PublishRoute, traits: MessageTraits?, mandatory: Bool)] = []
    var settled: [([UnackedDelivery], BrokerChannel.Settlement)] = []
    /// Total size of the publishes in octets.
    var octets = 0
}

extension BrokerChannel {
    func receivedTransaction(_ method: Method) throws(Refusal) {
        if case .txSelect = method {
            guard self.published == nil else {
                throw Refusal(.preconditionFailed, "cannot switch from confirm to tx mode")
            }
            if self.transaction == nil { self.transaction = Transaction() }
            return self.send(.txSelectOk(.init()))
        }
        guard let transaction = self.transaction else {
            throw Refusal(.preconditionFailed, "channel is not transactional")
        }
        self.transaction = Transaction()
        self.host.usedOctets -= transaction.octets
        if case .txCommit = method {
            for (message, route, traits, mandatory) in transaction.publishes {
                self.route(message, route, traits, mandatory: mandatory)
            }
            for (deliveries, settlement) in transaction.settled { self.settle(deliveries, settlement) }
            // RabbitMQ waits until the queues have the publishes.
            let queues = transaction.publishes.flatMap(\.route.queues)
            self.isCommitting = !queues.isEmpty
            if self.mail != nil {
                self.openCommits = queues.count
                for queue in queues { self.mail?.append(.committed, from: queue) }
            }
            if self.isCommitting { self.core.touch(self.connection) } else { self.send(.txCommitOk(.init())) }
        } else {
            for (deliveries, _) in transaction.settled { self.restore(deliveries) }
            self.send(.txRollbackOk(.init()))
        }
    }

    /// Ends a turn: the queues have the committed publishes.
    func finishCommit() {
        guard self.isCommitting else { return }
        self.isCommitting = false
        self.send(.txCommitOk(.init()))
    }
}
