// SPDX-License-Identifier: Apache-2.0
package import AMQP091
package import AMQP091Testing
import AMQP091Wire

// ConformanceSubject: what the suite has to know of a broker to choose its rows: the release, and whether queues that are
// neither durable nor exclusive are allowed, which depends on the configuration (Debian's RabbitMQ 4.3 allows them).
// Releases: the brokers a row holds for.

/// A broker the suite runs against.
package struct ConformanceSubject: Hashable, Sendable {
    package let version: InProcessBroker.RabbitMQVersion
    package let allowsTransientQueues: Bool

    /// An in-process broker of a release.
    package init(inProcess version: InProcessBroker.RabbitMQVersion) {
        self.version = version
        self.allowsTransientQueues = version < .init(major: 4, minor: 3)
    }

    /// Asks a broker.
    package init(asking configuration: AMQPClientConfiguration) async throws {
        let client = try await ScriptedClient.connect(configuration)
        defer { client.drop() }
        let start = try await client.login(configuration)
        guard let text = start.serverProperties["version"]?.stringValue,
            let version = InProcessBroker.RabbitMQVersion(text)
        else { throw BehaviourCase.Difference(description: "no version in \(start.serverProperties)") }
        self.version = version
        let name = Conformance.uniqueName()
        try client.send(.queueDeclare(.init(queue: name, autoDelete: true)))
        guard case .queueDeclareOk = try await client.next().method else {
            self.allowsTransientQueues = false
            return
        }
        try await client.call(.queueDelete(.init(queue: name)))
        self.allowsTransientQueues = true
    }
}

/// The brokers a row holds for.
struct Releases: Sendable {
    /// Said behind the name of the row; empty for all.
    let text: String
    let holds: @Sendable (ConformanceSubject) -> Bool

    static let all = Releases(text: "") { _ in true }
    static let before4 = Releases(text: "before 4.0") { $0.version < .init(major: 4, minor: 0) }
    static let since4 = Releases(text: "since 4.0") { $0.version >= .init(major: 4, minor: 0) }
    static let only4_0 = Releases(text: "4.0 to 4.2") {
        $0.version >= .init(major: 4, minor: 0) && $0.version < .init(major: 4, minor: 3)
    }
    static let before4_1 = Releases(text: "before 4.1") { $0.version < .init(major: 4, minor: 1) }
    static let since4_1 = Releases(text: "since 4.1") { $0.version >= .init(major: 4, minor: 1) }
    static let before4_3 = Releases(text: "before 4.3") { $0.version < .init(major: 4, minor: 3) }
    static let since4_3 = Releases(text: "since 4.3") { $0.version >= .init(major: 4, minor: 3) }
    static let withTransientQueues = Releases(text: "with transient queues") { $0.allowsTransientQueues }
    static let withoutTransientQueues = Releases(text: "without transient queues") { !$0.allowsTransientQueues }

    func named(_ name: String) -> String { self.text.isEmpty ? name : "\(name) (\(self.text))" }
}
