// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import EpollNetworking
import Synchronization

// FaultSchedule: seeded faults. The link between client and broker is a proxy that resets, stalls and slows down; the
// in-process broker takes orders to misbehave besides. Between rounds the sky is clear.

/// Passes octets on, or does not.
final class SoakProxy: Sendable {
    private struct State {
        var links: [StreamConnection] = []
        var isStalled = false
        var isSlow = false
    }

    private let state = Mutex(State())
    private let broker: Endpoint
    private let listener: StreamListener

    init(_ listener: StreamListener, to broker: Endpoint) {
        self.listener = listener
        self.broker = broker
    }

    var port: UInt16 { self.listener.localAddress.port ?? 0 }

    func resetAll() { for link in self.state.withLock({ $0.links }) { link.abort() } }
    func resetOne(_ number: Int) {
        let links = self.state.withLock { $0.links }
        if !links.isEmpty { links[number % links.count].abort() }
    }
    func stall(_ isStalled: Bool) { self.state.withLock { $0.isStalled = isStalled } }
    func slow(_ isSlow: Bool) { self.state.withLock { $0.isSlow = isSlow } }

    func serve() async throws { try await self.listener.serve { try await self.pass($0) } }
    func shutdown() { self.listener.shutdown(within: .zero) }

    private func pass(_ client: StreamConnection) async throws {
        self.state.withLock { $0.links.append(client) }
        defer { self.state.withLock { state in state.links.removeAll { $0 === client } } }
        try await StreamConnection.withConnection(to: self.broker) { broker in
            await withTaskGroup(of: Void.self) { group in
                group.addTask { await self.pump(client, broker) }
                group.addTask { await self.pump(broker, client) }
                await group.next()
                client.abort()
                broker.abort()
            }
        }
    }

    private func pump(_ from: StreamConnection, _ to: StreamConnection) async {
        do {
            while let chunk = try await from.read() {
                while self.state.withLock({ $0.isStalled }) { try await Task.sleep(for: .milliseconds(5)) }
                let octets = Array(chunk)
                guard self.state.withLock({ $0.isSlow }) else {
                    try await to.write(octets)
                    continue
                }
                for start in stride(from: 0, to: octets.count, by: 1000) {
                    try await to.write(Array(octets[start..<min(start + 1000, octets.count)]))
                    try await Task.sleep(for: .milliseconds(1))
                }
            }
        } catch {
            // Either side left.
        }
    }
}

struct FaultSchedule: Sendable {
    let proxy: SoakProxy
    /// Nil for a broker that takes no orders.
    let broker: InProcessBroker?
    let notes: Notes

    private func note(_ fault: String) { self.notes.add { $0.faults[fault, default: 0] += 1 } }

    /// One fault, and its end.
    func inject(_ generator: inout SeededGenerator) async {
        let milliseconds = 20 + generator.below(300)
        switch generator.below(self.broker == nil ? 5 : 13) {
        case 0:
            self.note("all links reset")
            self.proxy.resetAll()
        case 1, 2:
            self.note("one link reset")
            self.proxy.resetOne(generator.below(1000))
        case 3:
            self.note("stall")
            self.proxy.stall(true)
            await pause(milliseconds: milliseconds)
            self.proxy.stall(false)
        case 4:
            self.note("slow link")
            self.proxy.slow(true)
            await pause(milliseconds: milliseconds)
            self.proxy.slow(false)
        default: await self.order(generator.below(8), milliseconds)
        }
    }

    private func order(_ number: Int, _ milliseconds: Int) async {
        guard let broker else { return }
        switch number {
        case 0:
            self.note("links dropped by the broker")
            await broker.dropConnections()
        case 1:
            self.note("connections closed by the operator")
            await broker.closeConnections("injected fault")
        case 2:
            self.note("channels closed by the broker")
            await broker.closeChannels(.preconditionFailed, "injected fault")
        case 3:
            self.note("broker stands still")
            await broker.pause()
            await pause(milliseconds: milliseconds)
            await broker.resume()
        case 4:
            self.note("alarm")
            await broker.setAlarm("low on memory")
            await pause(milliseconds: milliseconds)
            await broker.setAlarm(nil)
        case 5:
            self.note("nacks")
            await broker.confirm(.nackNext(5))
        case 6:
            self.note("confirms held back")
            await broker.confirm(.hold)
            await pause(milliseconds: milliseconds)
            await broker.confirm(.release)
        default:
            self.note("no new connections")
            await broker.refuseConnections(true)
            await broker.dropConnections()
            await pause(milliseconds: milliseconds)
            await broker.refuseConnections(false)
        }
    }

    func clear() async {
        self.proxy.stall(false)
        self.proxy.slow(false)
        guard let broker else { return }
        await broker.resume()
        await broker.setAlarm(nil)
        await broker.refuseConnections(false)
        await broker.confirm(.nackNext(0))
        await broker.confirm(.release)
    }
}
