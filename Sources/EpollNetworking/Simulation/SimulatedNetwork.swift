// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import SystemPackage

// SimulatedNetwork: the names, listeners and links of a simulation, and their faults. On the simulation's thread only.
// The octets of a link: SimulatedStream.

package final class SimulatedNetwork: @unchecked Sendable {
    /// How long octets, connects and ends take in one direction.
    package var latency: ClosedRange<Duration> = .microseconds(50) ... .milliseconds(2)
    /// Octets on the way and unread in one direction at most.
    package var capacity = 64 << 10

    /// The treatment of new links by an address.
    package enum Reachability: Sendable {
        /// Links are accepted.
        case up
        /// Nobody listens: refused.
        case refused
        /// No answer at all.
        case silent
        /// The name is not known.
        case unknown
    }

    private struct Listener: Sendable {
        let loop: EventLoop
        let accept: @Sendable (SimulatedStream) -> Void
        var reachability = Reachability.up
    }

    weak var owner: Simulation?
    var random: SeededRandom
    private var listeners: [String: Listener] = [:]
    /// Both ends of the links that are not closed, in the order of connecting.
    private var links: [SimulatedLink] = []
    private var linkCount = 0

    init(random: SeededRandom) { self.random = random }

    /// The simulation, whose thread alone calls.
    var simulation: Simulation {
        guard let owner else { preconditionFailure("the network of a simulation that is over") }
        return owner
    }

    /// Accepts links to an address on a loop of the simulation.
    package func listen(at address: String, on loop: EventLoop, _ accept: @escaping @Sendable (SimulatedStream) -> Void)
    {
        self.listeners[address] = Listener(loop: loop, accept: accept)
    }

    /// Changes what an address does with new links.
    package func set(_ reachability: Reachability, of address: String) {
        self.listeners[address]?.reachability = reachability
    }

    /// Ends of links that are not closed.
    var openStreams: Int {
        self.prune()
        return self.links.reduce(0) { $0 + $1.ends.count { !$0.isClosed } }
    }

    /// Ends that have connected and are not closed.
    package var openClientStreams: Int {
        self.prune()
        return self.links.count { !$0.ends[0].isClosed }
    }

    /// The links to an address, or to all, in the order of connecting.
    package func links(to address: String? = nil) -> [SimulatedLink] {
        self.prune()
        return self.links.filter { address == nil || $0.address == address }
    }

    private func prune() { self.links.removeAll { link in link.ends.allSatisfy(\.isClosed) } }

    func delay() -> Duration { self.random.duration(in: self.latency) }

    // MARK: connecting

    /// Connects to a name and port of the simulation.
    func connect(
        host: String,
        port: UInt16,
        deadline: MonotonicTime,
        on loop: EventLoop
    ) async throws(NetworkError) -> SimulatedStream {
        let address = "\(host):\(port)"
        try await loop.sleep(for: self.delay())
        guard let reachability = self.listeners[address]?.reachability, reachability != .unknown else {
            throw NetworkError(kind: .resolve, text: "The name \(host) is not known.")
        }
        switch reachability {
        case .silent:
            try await loop.sleep(until: deadline)
            throw NetworkError(
                kind: .timedOut,
                text: "\(address) did not answer in time: check the address and the firewall."
            )
        case .refused:
            throw NetworkError(connecting: address, SystemError(errno: .connectionRefused, call: "connect"))
        case .up, .unknown:
            break
        }
        guard let listener = self.listeners[address] else { throw .cancelled(address) }
        self.linkCount += 1
        let link = SimulatedLink(number: self.linkCount, address: address, network: self)
        self.links.append(link)
        self.simulation.note("link \(link.number) to \(address)")
        self.simulation.schedule(after: self.delay()) {
            let isAccepted = listener.loop.execute { [server = link.ends[1], accept = listener.accept] in accept(server)
            }
            // Nobody listens any more.
            if !isAccepted { link.ends[1].reset() }
        }
        return link.ends[0]
    }
}

/// One connection of a simulated network: its two ends and its faults.
package final class SimulatedLink: @unchecked Sendable {
    package let number: Int
    package let address: String
    /// The end that connected, and the end that accepted.
    fileprivate(set) package var ends: [SimulatedStream] = []

    init(number: Int, address: String, network: SimulatedNetwork) {
        self.number = number
        self.address = address
        let client = SimulatedStream(network, link: number, isClient: true)
        let server = SimulatedStream(network, link: number, isClient: false)
        client.peer = server
        server.peer = client
        self.ends = [client, server]
    }

    /// Cuts the link: octets on the way arrive in part, and each end learns of it in its own time.
    package func cut() {
        for end in self.ends { end.cut() }
    }

    /// Loses everything that is sent from now on, to one end or to both, without telling anyone.
    package func loseSilently(toClient: Bool, toServer: Bool) {
        if toClient { self.ends[1].isLosing = true }
        if toServer { self.ends[0].isLosing = true }
    }

    /// Delays everything on the way, and what is sent meanwhile.
    package func stall(for duration: Duration) {
        for end in self.ends { end.stall(for: duration) }
    }
}
