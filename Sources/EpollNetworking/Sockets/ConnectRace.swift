// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import CEpoll
import Glibc
import SystemPackage

// ConnectRace: the attempts of one connect, side by side. Owned by the loop thread; start() and stop() may be called
// from any. It ends once: by a connected socket, the last failure, the deadline, stop(), or the end of the loop.

final class ConnectRace: @unchecked Sendable {
    /// One socket on its way.
    private final class Attempt: SocketHandler {
        let socket: StreamSocket
        let address: SocketAddress
        var registration: RegistrationID?
        unowned let race: ConnectRace

        init(_ socket: StreamSocket, _ address: SocketAddress, _ race: ConnectRace) {
            self.socket = socket
            self.address = address
            self.race = race
        }

        func socketReady(_ events: ReadyEvents) { self.race.ready(self, events) }

        /// Why the attempt has failed, if it has.
        func failure(_ events: ReadyEvents) -> SystemError? {
            if let error = self.socket.takePendingError() { return error }
            // The kernel chose the port nobody listens on as ours: both ends would be this socket (RFC 9293 §3.5).
            guard events.contains(.writable), self.address.port != nil, self.socket.localAddress == self.address else {
                return nil
            }
            return SystemError(code: -ECONNREFUSED, call: "connect")
        }
    }

    /// What timers and other threads tell the race.
    private final class Signal: LoopWork {
        enum Kind { case start, nextAttempt, deadline, stop }
        let kind: Kind
        let race: ConnectRace

        init(_ kind: Kind, _ race: ConnectRace) {
            self.kind = kind
            self.race = race
        }

        func runOnLoop() { self.race.received(self.kind) }
    }

    private let target: String
    private let options: SocketOptions
    private let deadline: MonotonicTime
    private let loop: EventLoop
    private let outcome: NetworkOutcome<StreamSocket>
    private var waiting: ArraySlice<SocketAddress>
    private var attempts: [Attempt] = []
    private var failures: [SystemError] = []
    private var nextTimer: TimerID?
    private var deadlineTimer: TimerID?
    private var isOver = false
    /// Unix sockets whose backlog is full: no event reports room, so they are tried again after a pause.
    private var full: [SocketAddress] = []
    private var pause = Duration.milliseconds(1)

    init(
        _ target: String,
        _ addresses: [SocketAddress],
        _ options: SocketOptions,
        _ deadline: MonotonicTime,
        _ loop: EventLoop,
        _ outcome: NetworkOutcome<StreamSocket>
    ) {
        self.target = target
        self.waiting = addresses[...]
        self.options = options
        self.deadline = deadline
        self.loop = loop
        self.outcome = outcome
    }

    func start() {
        if !self.loop.enqueue(Signal(.start, self)) {
            self.outcome.decide(.failure(self.loop.endedError(connecting: self.target)))
        }
    }

    func stop() { self.loop.enqueue(Signal(.stop, self)) }

    private func received(_ signal: Signal.Kind) {
        if self.isOver { return }
        switch signal {
        case .start:
            self.deadlineTimer = self.loop.schedule(Signal(.deadline, self), at: self.deadline)
            self.startNext()
        case .nextAttempt:
            self.nextTimer = nil
            self.waiting += self.full
            self.full = []
            self.startNext()
        case .deadline:
            if !self.full.isEmpty {
                let error = SystemError(code: -EAGAIN, call: "connect")
                return self.finish(.failure(NetworkError(connecting: self.target, error)))
            }
            let text = "\(self.target) did not answer in time: check the address and the firewall."
            self.finish(.failure(NetworkError(kind: .timedOut, underlying: self.failures.first, text: text)))
        case .stop:
            self.finish(.failure(.cancelled(self.target)))
        }
    }

    /// Starts attempts until one is on its way; ends the race when none is left.
    private func startNext() {
        while let address = self.waiting.popFirst() {
            do throws(SystemError) {
                if let socket = try self.begin(address) { return self.finish(.success(socket)) }
                if !self.waiting.isEmpty { self.scheduleNext() }
                return
            } catch {
                if error.errno == .resourceTemporarilyUnavailable, address.port == nil {
                    self.full.append(address)
                } else {
                    self.failures.append(error)
                }
            }
        }
        if !self.full.isEmpty {
            self.scheduleNext(after: self.pause)
            self.pause = min(self.pause * 2, .milliseconds(50))
        } else if self.attempts.isEmpty {
            self.finish(.failure(self.summary()))
        }
    }

    private func scheduleNext(after delay: Duration = Connector.attemptDelay) {
        if let timer = self.nextTimer { self.loop.cancel(timer) }
        let next = MonotonicTime.now + delay
        self.nextTimer = self.loop.schedule(Signal(.nextAttempt, self), at: next)
    }

    /// Answers the socket when the connection stands at once, as Unix sockets do.
    private func begin(_ address: SocketAddress) throws(SystemError) -> StreamSocket? {
        let socket = try StreamSocket(family: address.family)
        try self.options.apply(to: socket, family: address)
        if try socket.beginConnect(to: address) { return socket }
        let attempt = Attempt(socket, address, self)
        attempt.registration = try self.loop.register(socket.descriptor, handler: attempt)
        self.attempts.append(attempt)
        return nil
    }

    private func ready(_ attempt: Attempt, _ events: ReadyEvents) {
        if self.isOver { return }
        if events.contains(.loopStopped) {
            return self.finish(.failure(self.loop.endedError(connecting: self.target)))
        }
        if let error = attempt.failure(events) {
            self.failures.append(error)
            self.drop(attempt)
            self.startNext()
        } else if events.contains(.writable) {
            self.release(attempt)
            self.finish(.success(attempt.socket))
        }
    }

    private func release(_ attempt: Attempt) {
        if let registration = attempt.registration.take() { self.loop.deregister(registration) }
        self.attempts.removeAll { $0 === attempt }
    }

    private func drop(_ attempt: Attempt) {
        self.release(attempt)
        attempt.socket.close()
    }

    private func finish(_ result: Result<StreamSocket, NetworkError>) {
        self.isOver = true
        for attempt in self.attempts { self.drop(attempt) }
        self.waiting = []
        if let timer = self.nextTimer.take() { self.loop.cancel(timer) }
        if let timer = self.deadlineTimer.take() { self.loop.cancel(timer) }
        // A caller that was cancelled meanwhile will not take the socket: it closes with its last reference.
        self.outcome.decide(result)
    }

    /// All failed: the first failure is that of the preferred address and says most.
    private func summary() -> NetworkError {
        guard let first = self.failures.first(where: { $0.errno == .connectionRefused }) ?? self.failures.first else {
            return NetworkError(kind: .other, text: "There is no address to connect to for \(self.target).")
        }
        return NetworkError(connecting: self.target, first)
    }
}

extension StreamSocket {
    /// A new, unconnected socket.
    package convenience init(family: CInt) throws(SystemError) {
        self.init(
            owning: try SystemCall.checking("socket") { cepoll_stream_socket(family) },
            isUnix: family == AF_UNIX
        )
    }

    /// True when connected at once; false while on the way.
    package func beginConnect(to address: SocketAddress) throws(SystemError) -> Bool {
        try address.withSockaddr { (base, length) throws(SystemError) -> Bool in
            let code = cepoll_connect(self.descriptor, base, length)
            // Interrupted is on the way too: calling again would answer EALREADY.
            if code == -EINPROGRESS || code == -EINTR { return false }
            if code < 0 { throw SystemError(code: code, call: "connect") }
            return true
        }
    }
}
