// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import EpollNetworking
import SystemPackage

// BrokerAcceptor: one listening socket of an in-process broker. When descriptors run out it tries again later instead of
// spinning. Loop thread only.

final class BrokerAcceptor: SocketHandler, @unchecked Sendable {
    private unowned let core: BrokerCore
    private let socket: ListeningSocket
    private let tls: BrokerTLS?
    private var registration: RegistrationID?
    private var retry: TimerID?
    private var isClosed = false

    init(core: BrokerCore, socket: ListeningSocket, tls: BrokerTLS?) {
        self.core = core
        self.socket = socket
        self.tls = tls
    }

    func start() throws(SystemError) {
        self.registration = try self.core.loop.register(self.socket.descriptor, handler: self)
    }

    func socketReady(_ events: ReadyEvents) {
        if events.contains(.loopStopped) {
            self.registration = nil
            return self.close()
        }
        self.accept()
    }

    func accept() {
        while !self.isClosed, !self.core.isFrozen {
            do throws(SystemError) {
                guard let socket = try self.socket.accept() else { return }
                if self.core.refusesConnections {
                    socket.reset()
                } else {
                    try? socket.setNoDelay(true)
                    guard let transport = BrokerTLS.transport(socket, self.tls) else {
                        socket.close()
                        continue
                    }
                    BrokerConnection(core: self.core, transport).start()
                }
            } catch {
                self.retrySoon()
                return
            }
        }
    }

    private func retrySoon() {
        guard self.retry == nil else { return }
        self.retry = self.core.loop.schedule(
            BrokerTimer { [self] in
                self.retry = nil
                self.accept()
            },
            at: MonotonicTime.now + .milliseconds(100)
        )
    }

    func close() {
        guard !self.isClosed else { return }
        self.isClosed = true
        if let retry = self.retry.take() { self.core.loop.cancel(retry) }
        if let registration = self.registration.take() { self.core.loop.deregister(registration) }
        self.socket.close()
    }
}
