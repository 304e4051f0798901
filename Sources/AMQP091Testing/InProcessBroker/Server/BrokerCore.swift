// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import DequeModule
import EpollConcurrency
import EpollNetworking
import SecretValues
import SystemPackage

// BrokerCore: all state of one in-process broker, on one loop thread, without a lock. Connections decode octets into calls
// of the model; the end of a turn completes its work: queues are served, dead letters published, confirms merged,
// and every connection with output writes once.

final class BrokerCore: LoopWork, QueueServices, @unchecked Sendable {
    let loop: EventLoop
    let options: InProcessBroker.Options
    var virtualHosts: [String: VirtualHost] = [:]
    var connections: [ObjectIdentifier: BrokerConnection] = [:]
    /// Number of connections so far.
    var connectionCount = 0
    private(set) var now = MonotonicTime.now.nanoseconds
    var version: RabbitMQVersion { self.options.version }
    /// Acknowledgement timeout in milliseconds; nil for none.
    var consumerTimeout: UInt64?
    var acceptors: [BrokerAcceptor] = []

    /// The reason while publishers are blocked, by a test or by the memory limit.
    var orderedAlarm: String?
    private(set) var alarm: String?
    /// True while the broker is frozen.
    private(set) var isFrozen = false
    var refusesConnections = false
    /// Passwords by user name.
    @Secret var users: [String: String]
    var confirmOrder = ConfirmOrders()
    var methodOrders = MethodOrders()
    /// Maximum size of a write in octets, if a test limits it.
    var pieceSize: Int?

    /// Links of a simulation that were not accepted while the broker was frozen.
    private var backlog: [SimulatedStream] = []

    private var isFlushScheduled = false
    private var dueQueues: [BrokerQueue] = []
    private var deaths = Deque<Death>()
    private var touched: [BrokerConnection] = []
    private var timers: [ObjectIdentifier: TimerID] = [:]
    private var waits: [UInt64: BrokerWait] = [:]
    private var nextWait: UInt64 = 0

    private struct Death {
        let message: Message
        let queue: BrokerQueue
        let reason: DeathReason
        /// The queues that have not accepted it yet, if others have.
        var remaining: [String]?
    }

    /// Dead letters of at-least-once queues that some queue did not accept, and the version of the host then.
    private var heldDeaths: [(death: Death, foundAt: UInt64)] = []
    private var isRetryScheduled = false

    init(loop: EventLoop, options: InProcessBroker.Options) {
        self.loop = loop
        self.options = options
        self.users = options.users
        self.consumerTimeout = options.consumerTimeout?.milliseconds
        for name in options.virtualHosts { self.virtualHosts[name] = VirtualHost(name: name, services: self) }
    }

    // MARK: the order of things

    /// The connections in the order of connecting.
    var connectionsInOrder: [BrokerConnection] { self.connections.values.sorted { $0.number < $1.number } }

    /// The values of a table; in a simulation by key, so that equal seeds make equal runs.
    func inOrder<Key: Comparable, Value>(_ table: [Key: Value]) -> [Value] {
        guard table.count > 1, self.loop.simulation != nil else { return Array(table.values) }
        return table.sorted { $0.key < $1.key }.map(\.value)
    }

    // MARK: the turn

    /// Called by every external event before it changes the model.
    func beginTurn() {
        self.now = MonotonicTime.now.nanoseconds
        self.scheduleFlush()
    }

    func scheduleFlush() {
        guard !self.isFlushScheduled else { return }
        self.isFlushScheduled = true
        self.loop.atEndOfTick(self)
    }

    /// Completes a turn.
    func runOnLoop() {
        self.isFlushScheduled = false
        // A dead letter schedules another queue; each message dies in a queue once, unless it is rejected.
        self.retryHeldDeaths(all: false)
        while !self.dueQueues.isEmpty || !self.deaths.isEmpty {
            self.serveDueQueues()
            self.publishDeaths()
        }
        let touched = self.touched
        self.touched.removeAll(keepingCapacity: true)
        for connection in touched { connection.finishTurn() }
        self.checkMemory()
        self.checkWaits()
    }

    func touch(_ connection: BrokerConnection) {
        guard !connection.isTouched else { return }
        connection.isTouched = true
        self.touched.append(connection)
        self.scheduleFlush()
    }

    private func serveDueQueues() {
        var due: [BrokerQueue] = []
        swap(&due, &self.dueQueues)
        for queue in due {
            queue.isServiceDue = false
            queue.service()
        }
        if self.dueQueues.isEmpty {
            due.removeAll(keepingCapacity: true)
            self.dueQueues = due
        }
    }

    private func publishDeaths() {
        while let death = self.deaths.popFirst() {
            let refused = self.publish(death)
            guard death.queue.options.keepsDeadLetters, !death.queue.isDeleted, refused != [] else { continue }
            self.hold(death, remaining: refused)
        }
    }

    /// Publishes a dead letter; returns the queues that did not accept it, or nil if it is routed to none.
    private func publish(_ death: Death) -> [String]? {
        let host = death.queue.host
        guard let name = death.queue.options.deadLetterExchange, let exchange = host.exchanges[name],
            let message = DeadLetters.message(death.message, from: death.queue, death.reason, exchange: name)
        else { return nil }
        let headers = message.properties.headers ?? FieldTable()
        var keys = [message.route.routingKey]
        if death.queue.options.deadLetterRoutingKey == nil {
            keys += (headers["CC"]?.arrayValue ?? []).compactMap(\.stringValue)
        }
        let queues = host.route(exchange, keys: keys, headers: headers)
        var refused: [String] = []
        for queue in queues
        where !DeadLetters.isCycle(headers, to: queue.name) && death.remaining?.contains(queue.name) ?? true {
            if !queue.publish(message) { refused.append(queue.name) }
        }
        return queues.isEmpty ? nil : refused
    }

    private func hold(_ death: Death, remaining: [String]?) {
        var death = death
        death.remaining = remaining
        let host = death.queue.host
        host.usedOctets += death.message.size
        self.heldDeaths.append((death, host.topologyVersion))
        guard !self.isRetryScheduled else { return }
        self.isRetryScheduled = true
        self.loop.schedule(
            BrokerTimer { [self] in
                self.isRetryScheduled = false
                self.beginTurn()
                self.retryHeldDeaths(all: true)
            },
            at: MonotonicTime.now + .milliseconds(200)
        )
    }

    /// Publishes held dead letters again: all, or those whose host has changed.
    private func retryHeldDeaths(all: Bool) {
        guard !self.heldDeaths.isEmpty else { return }
        let held = self.heldDeaths
        self.heldDeaths = []
        // Before later dead letters, to keep the order.
        for (death, foundAt) in held.reversed() {
            guard all || foundAt != death.queue.host.topologyVersion else {
                self.heldDeaths.append((death, foundAt))
                continue
            }
            death.queue.host.usedOctets -= death.message.size
            self.deaths.prepend(death)
        }
        self.heldDeaths.reverse()
    }

    // MARK: services of queues

    func serviceSoon(_ queue: BrokerQueue) {
        queue.isServiceDue = true
        self.dueQueues.append(queue)
        self.scheduleFlush()
    }

    func deadLetter(_ message: Message, from queue: BrokerQueue, _ reason: DeathReason) {
        self.deaths.append(Death(message: message, queue: queue, reason: reason))
        self.scheduleFlush()
    }

    func setTimer(of queue: BrokerQueue, at deadline: UInt64) {
        guard deadline < queue.timerDeadline else { return }
        queue.timerDeadline = deadline
        let key = ObjectIdentifier(queue)
        if let timer = self.timers[key] { self.loop.cancel(timer) }
        self.timers[key] = self.loop.schedule(
            BrokerTimer { [self, weak queue] in
                guard let queue else { return }
                self.timers[key] = nil
                self.beginTurn()
                queue.timerFired()
            },
            at: MonotonicTime(nanoseconds: deadline)
        )
    }

    // MARK: alarms

    private func checkMemory() {
        let used = self.virtualHosts.values.reduce(0) { $0 + $1.usedOctets }
        let isOver = used > (self.alarm == nil ? self.options.memoryLimit : self.options.memoryLimit / 4 * 3)
        let alarm = self.orderedAlarm ?? (isOver ? "low on memory" : nil)
        guard alarm != self.alarm else { return }
        self.alarm = alarm
        if alarm == nil {
            for connection in self.connectionsInOrder { connection.unblock() }
        }
    }

    func freeze(_ frozen: Bool) {
        guard self.isFrozen != frozen else { return }
        self.isFrozen = frozen
        guard !frozen else { return }
        for acceptor in self.acceptors { acceptor.accept() }
        for stream in self.backlog { self.admit(stream) }
        self.backlog = []
        for connection in self.connectionsInOrder { connection.thaw() }
    }

    // MARK: links of a simulation

    /// Takes a link of a simulation, as an acceptor takes that of a socket.
    func admit(_ stream: SimulatedStream) {
        if self.isFrozen {
            self.backlog.append(stream)
        } else if self.refusesConnections {
            stream.reset()
        } else {
            BrokerConnection(core: self, stream).start()
        }
    }

    // MARK: waits for a condition

    /// Calls `body` once, when the condition holds or at the deadline.
    func wait(until deadline: MonotonicTime, for condition: @escaping () -> Bool, _ body: @escaping (Bool) -> Void)
        -> UInt64
    {
        self.nextWait += 1
        let token = self.nextWait
        if condition() {
            body(true)
            return token
        }
        let timer = self.loop.schedule(BrokerTimer { [self] in self.endWait(token, false) }, at: deadline)
        self.waits[token] = BrokerWait(condition: condition, body: body, timer: timer)
        return token
    }

    func endWait(_ token: UInt64, _ holds: Bool) {
        guard let wait = self.waits.removeValue(forKey: token) else { return }
        self.loop.cancel(wait.timer)
        wait.body(holds)
    }

    private func checkWaits() {
        guard !self.waits.isEmpty else { return }
        for (token, wait) in self.waits.sorted(by: { $0.key < $1.key }) where wait.condition() {
            self.endWait(token, true)
        }
    }

    /// Ends the broker: every link is dropped.
    func stop() {
        for acceptor in self.acceptors { acceptor.close() }
        self.acceptors = []
        for connection in self.connectionsInOrder { connection.end() }
        for token in self.waits.keys.sorted() { self.endWait(token, false) }
        for timer in self.timers.values { self.loop.cancel(timer) }
        self.timers = [:]
        self.dueQueues = []
        self.heldDeaths = []
    }
}

/// A condition with its waiter.
struct BrokerWait {
    let condition: () -> Bool
    let body: (Bool) -> Void
    let timer: TimerID
}

/// A closure run by a loop's timer; loop thread only.
final class BrokerTimer: LoopWork, @unchecked Sendable {
    private let body: () -> Void
    init(_ body: @escaping () -> Void) { self.body = body }
    func runOnLoop() { self.body() }
}

/// Faults of confirms.
struct ConfirmOrders {
    var nacks = 0
    var returns = 0
    var areHeld = false
    /// Delay between a publish and its confirm.
    var delay = Duration.zero
}

extension Duration {
    /// Whole milliseconds, 0 or more.
    var milliseconds: UInt64 {
        let (seconds, attoseconds) = self.saturated.components
        guard seconds >= 0, attoseconds >= 0 else { return 0 }
        let (product, overflow) = UInt64(seconds).multipliedReportingOverflow(by: 1000)
        guard !overflow, product < QueueOptions.ceiling else { return QueueOptions.ceiling }
        return product + UInt64(attoseconds / 1_000_000_000_000_000)
    }
}
