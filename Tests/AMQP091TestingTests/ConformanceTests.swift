// SPDX-License-Identifier: Apache-2.0
import AMQP091Conformance
import AMQP091Testing
import Testing

// ConformanceTests: the cases of AMQP091Conformance against the in-process broker in the behaviour of each release.
// IntegrationTests runs the same ones against RabbitMQ.

@Suite("Conformance of the in-process broker", .timeLimit(.minutes(1)))
struct ConformanceTests {
    struct Row<Case: CustomStringConvertible & Sendable>: CustomTestStringConvertible, Sendable {
        let version: InProcessBroker.RabbitMQVersion
        let value: Case
        var testDescription: String { "\(self.version): \(self.value)" }
    }

    private static func rows<Case>(_ cases: (ConformanceSubject) -> [Case]) -> [Row<Case>] {
        self.versions.flatMap { version in
            cases(ConformanceSubject(inProcess: version)).map { Row(version: version, value: $0) }
        }
    }

    @Test("A request is refused with RabbitMQ's code and text", arguments: rows(RefusalCase.cases))
    func refusal(_ row: Row<RefusalCase>) async throws {
        try await InProcessBroker.withBroker(.rabbitMQ(row.version)) { broker in
            let difference = try await row.value.run(broker.configuration)
            #expect(difference == nil)
        }
    }

    @Test("The broker behaves as RabbitMQ does", arguments: rows(BehaviourCase.cases))
    func behaviour(_ row: Row<BehaviourCase>) async throws {
        try await InProcessBroker.withBroker(.rabbitMQ(row.version)) { broker in
            try await row.value.run(broker.configuration)
        }
    }

    static let versions: [InProcessBroker.RabbitMQVersion] = [.v3_10, .v4_0, .v4_3]

    @Test("A broker announces the release that it imitates", arguments: versions)
    func version(_ version: InProcessBroker.RabbitMQVersion) async throws {
        try await InProcessBroker.withBroker(.rabbitMQ(version)) { broker in
            let subject = try await ConformanceSubject(asking: broker.configuration)
            #expect(subject == ConformanceSubject(inProcess: version))
        }
    }
}
