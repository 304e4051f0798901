// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Foundation

// Connector: how a run comes to its connections: their names, the nodes of a cluster in turn, and the sentence when the
// broker is not there.

/// Connects to the broker of a run.
struct Connector: Sendable {
    let broker: BrokerUnderTest
    /// The run, part of the connections' names.
    let id: String
    /// Which node each connection is to.
    var nodes = ConnectedNodes()

    /// A connection to the node whose turn it is, or to one of the others.
    ///
    /// - Parameters:
    ///   - role: What the connection is for.
    ///   - number: Whose turn it is.
    ///   - avoidsLast: Whether the node that the connection of this role was to before comes last: one that is frozen takes
    ///     connections and does not answer.
    /// - Returns: An open connection.
    /// - Throws: ``BenchFailure``, or `CancellationError`.
    func connect(_ role: String, number: Int = 0, avoidsLast: Bool = false) async throws -> AMQPConnection {
        do {
            var configuration = try self.configuration(number)
            if configuration.connectionName.isEmpty { configuration.connectionName = "amqp-bench \(self.id) \(role)" }
            // One after the other, so that it is known which one it is.
            var addresses = configuration.addresses
            if avoidsLast, let last = addresses.firstIndex(where: { $0.description == self.nodes[role] }) {
                addresses = Array(addresses[(last + 1)...] + addresses[...last])
            }
            for address in addresses.dropLast() {
                configuration.addresses = [address]
                if let connection = try? await AMQPConnection.connect(configuration) {
                    self.nodes[role] = address.description
                    return connection
                }
                try Task.checkCancellation()
            }
            configuration.addresses = addresses.suffix(1)
            let connection = try await AMQPConnection.connect(configuration)
            self.nodes[role] = configuration.addresses.first?.description
            return connection
        } catch let error as AMQPError {
            try Task.checkCancellation()
            throw BenchFailure.unavailable(error, address: self.address)
        }
    }

    private func configuration(_ number: Int) throws(AMQPError) -> AMQPClientConfiguration {
        let uris = self.broker.uris
        var configuration = try AMQPClientConfiguration(uri: uris[number % uris.count])
        for other in 1..<max(1, uris.count) {
            configuration.addresses += try AMQPClientConfiguration(uri: uris[(number + other) % uris.count]).addresses
        }
        return configuration
    }

    /// Where the broker is, without the password.
    private var address: String {
        guard let configuration = try? self.configuration(0) else { return "the URI given" }
        return configuration.addresses.map(\.description).joined(separator: ", ")
    }

    /// A report of nothing yet, on the broker of a connection.
    func emptyReport(_ connection: AMQPConnection, _ options: RunOptions) -> Report {
        let properties = connection.serverProperties
        return Report(
            id: self.id,
            labels: options.labels,
            started: Date().formatted(.iso8601),
            tool: Report.Tool(commit: BuildFacts.commit),
            broker: Report.Broker(
                product: properties["product"]?.stringValue ?? "unknown broker",
                version: properties["version"]?.stringValue ?? "",
                startedHere: self.broker.startSeconds != nil,
                startSeconds: self.broker.startSeconds
            ),
            options: options
        )
    }

    /// Whether these nodes are those of one cluster: one user, password and virtual host.
    static func areOfOneCluster(_ uris: [String]) -> Bool {
        let all = uris.compactMap { try? AMQPClientConfiguration(uri: $0) }
        guard all.count == uris.count, let first = all.first else { return true }
        return all.allSatisfy {
            $0.virtualHost == first.virtualHost && $0.authentication == first.authentication && $0.tls == first.tls
        }
    }
}
