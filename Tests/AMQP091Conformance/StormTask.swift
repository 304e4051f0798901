// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Wire

// StormTask: one of the tasks of a CallStorm.

/// Calls at random on a channel that other tasks use too.
struct StormTask {
    private let stage: CallStorm.Stage
    private let channel: AMQPChannel
    private let task: Int
    private var random: StormRandom
    private var held: [AMQPDelivery] = []

    init(_ stage: CallStorm.Stage, _ channel: AMQPChannel, seed: UInt64, task: Int) {
        self.stage = stage
        self.channel = channel
        self.task = task
        self.random = StormRandom(seed: seed, task: task)
    }

    func run(steps: Int) async throws {
        var task = self
        for _ in 0..<steps { try await task.step() }
        // Some stay unsettled: they go back with the end of the channel.
        for delivery in task.held where task.random.isOne(in: 2) {
            _ = try task.stage.account.settle(delivery, .ack, mayBeVoid: task.stage.hasRecover)
        }
    }

    private mutating func step() async throws {
        switch Int.random(in: 0..<30, using: &self.random) {
        case 0: try await self.channel.declareQueue("", exclusive: true)
        case 1: _ = try await self.channel.inspectQueue(self.anyQueue())
        case 2, 3: try await self.channel.bindQueue(self.anyQueue(), to: self.stage.name, routingKey: "\(self.task)")
        case 4, 5:
            try await self.channel.unbindQueue(self.anyQueue(), from: self.stage.name, routingKey: "\(self.task)")
        case 6: try await self.channel.setPrefetch(count: UInt16.random(in: 0...20, using: &self.random))
        case 7: try await self.channel.enableConfirms(window: Int.random(in: 4...32, using: &self.random))
        case 8, 9, 10: try await self.consume()
        case 11, 12, 13: try await self.get()
        case 14 where self.stage.hasRecover: try await self.channel.recover()
        case 14..<20: try await self.publish()
        case 20..<23: try await self.publishMandatory()
        default: try self.settle()
        }
    }

    private mutating func anyQueue() -> String {
        self.stage.queue(Int.random(in: 0..<CallStorm.queues, using: &self.random))
    }

    private mutating func publish() async throws {
        let (body, queue) = (self.stage.nextBody(), self.anyQueue())
        // Entered before: another task may get it before this one knows that it was confirmed.
        self.stage.enter(body, in: queue)
        if Bool.random(using: &self.random) {
            try await self.channel.publishAndConfirm(AMQPMessage(body), to: .queue(queue))
        } else {
            try await self.channel.publish(AMQPMessage(body), to: .queue(queue))
        }
    }

    /// To a key whose bindings come and go: at most one queue, because the account enters one.
    private mutating func publishMandatory() async throws {
        let body = self.stage.nextBody()
        let destination = AMQPDestination(
            exchange: "",
            routingKey: self.random.isOne(in: 2) ? self.anyQueue() : "nowhere"
        )
        do throws(AMQPError) {
            try await self.channel.publishAndConfirm(AMQPMessage(body), to: destination, mandatory: true)
        } catch {
            guard error.code == .returned, destination.routingKey == "nowhere" else { throw error }
            return
        }
        guard destination.routingKey != "nowhere" else {
            throw StormFailure("message \(body) was confirmed, and there is no queue it could be in")
        }
        self.stage.enter(body, in: destination.routingKey)
    }

    private mutating func get() async throws {
        let isAutomatic = self.random.isOne(in: 4)
        guard
            let delivery = try await self.channel.get(
                self.anyQueue(),
                acknowledgement: isAutomatic ? .automatic : .manual
            )
        else { return }
        if isAutomatic { return self.stage.account.readAutomatic(delivery) }
        if self.stage.account.read(delivery) { self.held.append(delivery) }
    }

    /// Reads some, cancels, and reads what came before `cancel-ok`.
    private mutating func consume() async throws {
        let isAutomatic = self.random.isOne(in: 4)
        let deliveries = try await self.channel.deliveries(
            from: self.anyQueue(),
            acknowledgement: isAutomatic ? .automatic : .manual
        )
        let (channel, isAtOnce) = (self.channel, self.random.isOne(in: 3))
        let pause = Int.random(in: 0...2000, using: &self.random)
        async let cancelled: Void = {
            if !isAtOnce { try await Task.sleep(for: .microseconds(pause)) }
            try await channel.cancel(deliveries)
        }()
        for try await delivery in deliveries {
            if isAutomatic {
                self.stage.account.readAutomatic(delivery)
            } else if self.stage.account.read(delivery) {
                self.held.append(delivery)
                if self.held.count > 10 { try self.settle() }
            }
        }
        try await cancelled
    }

    private mutating func settle() throws {
        guard !self.held.isEmpty else { return }
        let delivery = self.held.remove(at: Int.random(in: 0..<self.held.count, using: &self.random))
        let calls: [SettlementAccount.Call] =
            self.stage.hasRecover
            ? [.ack, .ack, .nack, .requeue, .reject, .rejectAndRequeue] : SettlementAccount.Call.allCases
        guard let call = calls.randomElement(using: &self.random) else { return }
        _ = try self.stage.account.settle(delivery, call, mayBeVoid: self.stage.hasRecover)
    }
}
