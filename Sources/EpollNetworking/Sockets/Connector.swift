// SPDX-License-Identifier: Apache-2.0
package import EpollConcurrency

// Connector: from a name, or from addresses, to a connected socket (Happy Eyeballs, RFC 8305, without its separate
// lookups per family): addresses of the two families alternate, a new attempt starts every 250 ms or as soon as one
// failed, the first to connect wins and the others are closed. One deadline covers the lookup and all attempts.

package enum Connector {
    /// The pause between two attempts while nothing has failed (RFC 8305 §5).
    package static let attemptDelay = Duration.milliseconds(250)

    /// Connects to a host by name or number; inside of a simulation, to a host of the simulation.
    package static func open(
        host: String,
        port: UInt16,
        deadline: MonotonicTime,
        on loop: EventLoop,
        options: SocketOptions = SocketOptions()
    ) async throws(NetworkError) -> any ByteTransport & Sendable {
        if let network = loop.simulation?.network {
            return try await network.connect(host: host, port: port, deadline: deadline, on: loop)
        }
        return try await Self.connect(host: host, port: port, deadline: deadline, on: loop, options: options)
    }

    /// Connects to a host by name or number.
    package static func connect(
        host: String,
        port: UInt16,
        deadline: MonotonicTime,
        on loop: EventLoop,
        options: SocketOptions = SocketOptions()
    ) async throws(NetworkError) -> StreamSocket {
        let addresses = try await HostResolver.resolve(host: host, port: port, deadline: deadline, on: loop)
        return try await Self.connect(
            to: Self.interleaved(addresses),
            named: "\(host):\(port)",
            deadline: deadline,
            on: loop,
            options: options
        )
    }

    /// Connects to the first of the addresses that answers, tried in this order.
    package static func connect(
        to addresses: [SocketAddress],
        named name: String? = nil,
        deadline: MonotonicTime,
        on loop: EventLoop,
        options: SocketOptions = SocketOptions()
    ) async throws(NetworkError) -> StreamSocket {
        guard let first = addresses.first else {
            throw NetworkError(kind: .resolve, text: "There is no address to connect to.")
        }
        let target = name ?? first.description
        if Task.isCancelled { throw .cancelled(target) }
        let outcome = NetworkOutcome<StreamSocket>()
        let race = ConnectRace(target, addresses, options, deadline, loop, outcome)
        race.start()
        // The race keeps trying until it hears of a cancelled caller.
        do throws(NetworkError) {
            return try await outcome.value(cancelled: .cancelled(target))
        } catch {
            race.stop()
            throw error
        }
    }

    /// Connects to one address, such as a Unix socket.
    package static func connect(
        to address: SocketAddress,
        deadline: MonotonicTime,
        on loop: EventLoop,
        options: SocketOptions = SocketOptions()
    ) async throws(NetworkError) -> StreamSocket {
        try await Self.connect(to: [address], deadline: deadline, on: loop, options: options)
    }

    /// Alternates the families, beginning with that of the first address (RFC 8305 §4).
    static func interleaved(_ addresses: [SocketAddress]) -> [SocketAddress] {
        guard let family = addresses.first?.family else { return [] }
        let preferred = addresses.filter { $0.family == family }
        let others = addresses.filter { $0.family != family }
        var result: [SocketAddress] = []
        for index in 0..<max(preferred.count, others.count) {
            if index < preferred.count { result.append(preferred[index]) }
            if index < others.count { result.append(others[index]) }
        }
        return result
    }
}
