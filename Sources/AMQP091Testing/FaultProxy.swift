// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import EpollNetworking

// FaultProxy: a proxy between clients and a broker that injects link faults. One fault at a time, which may
// change at any time; octets in both directions are counted over all connections.

/// A proxy between clients and a broker that injects link faults.
package final class FaultProxy: Sendable {
    /// A fault of the link.
    package enum Fault: Sendable, Equatable {
        case none
        /// Ends the link after this many octets to the client, by a reset or in order.
        case cut(after: Int, resets: Bool)
        /// Changes one octet to the client.
        case corrupt(at: Int, mask: UInt8)
        /// Writes one octet at a time, in both directions.
        case slice
        /// Limits the rate in octets per millisecond, in each direction.
        case throttle(Int)
        /// Half-closes, but keeps reading.
        case halfClose
        /// Reads octets and forwards none.
        case swallow
        /// Stops reading.
        case stall
        /// Delays octets, in both directions.
        case delay(Duration)
        /// Puts octets that are no frame before what goes to a client next; once.
        case garbage
    }

    private struct State {
        var fault = Fault.none
        var toClient = 0
        var links: [StreamConnection] = []
        /// Links that are stalled for the rest of their lives, whatever the fault is.
        var stalled: Set<ObjectIdentifier> = []
    }

    private let state = Locked(State())
    private let listener: StreamListener
    private let broker: UInt16

    private init(_ listener: StreamListener, to broker: UInt16) {
        self.listener = listener
        self.broker = broker
    }

    /// The port for clients.
    package var port: UInt16 { self.listener.localAddress.port ?? 0 }
    /// Number of octets sent to clients.
    package var octetsToClient: Int { self.state.withLock { $0.toClient } }

    /// Sets the fault and resets the count.
    package func set(_ fault: Fault) {
        let links = self.state.withLock { state in
            state.fault = fault
            state.toClient = 0
            return state.links
        }
        if fault == .halfClose { for link in links { Task { try? await link.finish() } } }
    }

    /// Stops reading on every link that is there now, for the rest of its life; later links pass.
    package func stallLinks() {
        self.state.withLock { state in state.stalled.formUnion(state.links.map { ObjectIdentifier($0) }) }
    }

    /// Resets the link of the newest client.
    package func resetNewest() { self.state.withLock { $0.links.last }?.abort() }

    /// Resets the links of all clients, and returns their number.
    @discardableResult
    package func resetAll() -> Int {
        let links = self.state.withLock { $0.links }
        for link in links { link.abort() }
        return links.count
    }

    /// Runs `body` with a proxy for the broker on this loopback port.
    package static func withProxy<Result>(
        to broker: UInt16,
        _ body: (FaultProxy) async throws -> Result
    ) async throws -> Result {
        var options = ListenerOptions()
        // Small, so that back-pressure takes effect soon.
        options.connection.receiveBuffer = 64 << 10
        options.connection.sendBuffer = 64 << 10
        return try await StreamListener.withListener(on: .loopback(port: 0), options: options) { listener in
            let proxy = FaultProxy(listener, to: broker)
            async let served: Void = listener.serve { try await proxy.pass($0) }
            defer { listener.shutdown(within: .zero) }
            let result = try await body(proxy)
            listener.shutdown(within: .zero)
            try? await served
            return result
        }
    }

    private func pass(_ client: StreamConnection) async throws {
        self.state.withLock { $0.links.append(client) }
        defer {
            self.state.withLock { state in
                state.links.removeAll { $0 === client }
                state.stalled.remove(ObjectIdentifier(client))
            }
        }
        try await StreamConnection.withConnection(to: .loopback(port: self.broker)) { broker in
            await withTaskGroup(of: Void.self) { group in
                group.addTask { await self.pump(client, broker, link: ObjectIdentifier(client), toClient: false) }
                group.addTask { await self.pump(broker, client, link: ObjectIdentifier(client), toClient: true) }
                // The end of one direction ends the other, except in a half-close.
                await group.next()
                client.close()
                broker.close()
            }
        }
    }

    private func isStalled(_ link: ObjectIdentifier) -> Bool {
        self.state.withLock { $0.fault == .stall || $0.stalled.contains(link) }
    }

    private func pump(
        _ from: StreamConnection,
        _ to: StreamConnection,
        link: ObjectIdentifier,
        toClient: Bool
    ) async {
        do {
            while true {
                while self.isStalled(link) { try await Task.sleep(for: .milliseconds(5)) }
                guard let chunk = try await from.read() else { return }
                // Octets of a read that was pending when the stall began are held too.
                while self.isStalled(link) { try await Task.sleep(for: .milliseconds(5)) }
                var octets = Array(chunk)
                let (fault, before) = self.state.withLock { state in
                    let before = state.toClient
                    if toClient { state.toClient += octets.count }
                    let fault = state.fault
                    guard fault == .garbage else { return (fault, before) }
                    if toClient { state.fault = .none }
                    return (toClient ? fault : .none, before)
                }
                switch fault {
                case .none, .stall: try await to.write(octets)
                case .garbage: try await to.write([UInt8](repeating: 0xAA, count: 8) + octets)
                case .slice: for octet in octets { try await to.write([octet]) }
                case .throttle(let count):
                    for start in stride(from: 0, to: octets.count, by: count) {
                        try await to.write(Array(octets[start..<min(start + count, octets.count)]))
                        try await Task.sleep(for: .milliseconds(1))
                    }
                case .swallow: continue
                case .delay(let duration):
                    try await Task.sleep(for: duration)
                    try await to.write(octets)
                case .halfClose: if !toClient { try await to.write(octets) }
                case .corrupt(let at, let mask):
                    if toClient, octets.indices.contains(at - before) { octets[at - before] ^= mask }
                    try await to.write(octets)
                case .cut(let after, let resets):
                    guard toClient, before + octets.count >= after else {
                        try await to.write(octets)
                        continue
                    }
                    try await to.write(Array(octets.prefix(max(0, after - before))))
                    // A reset would overtake octets written just before.
                    if resets { try await Task.sleep(for: .milliseconds(1)) }
                    if resets { to.abort() } else { to.close() }
                    return
                }
            }
        } catch {
            // Either side has closed.
        }
    }
}
