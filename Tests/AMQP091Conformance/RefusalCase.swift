// SPDX-License-Identifier: Apache-2.0
package import AMQP091
import AMQP091Testing
import AMQP091Wire

// RefusalCase: a request a broker refuses, with the reply code, the text and the blamed method of RabbitMQ.
// The rows are in RefusalCase+Topology and +Messages. They run against the in-process broker and against RabbitMQ, those
// that hold for its release. `$` in a text stands for the case's own name; a text that ends with `…` is a beginning.

/// One request that is refused.
package struct RefusalCase: Sendable, CustomStringConvertible {
    enum Step: Sendable {
        /// Sends a request and waits for its reply.
        case call(Method)
        /// Sends a method that is not answered.
        case send(Method, channel: UInt16? = nil)
        case publish(
            exchange: String,
            key: String,
            immediate: Bool = false,
            properties: BasicProperties = BasicProperties()
        )
        case raw([UInt8])
        /// Sends several methods in one write; the last one is blamed.
        case pipelined([Method])
        /// Does the same on another connection, which stays open.
        case elsewhere([Method])
    }

    package let description: String
    let releases: Releases
    let code: ReplyCode
    let text: String
    let steps: @Sendable (String) -> [Step]

    init(
        _ name: String,
        on releases: Releases = .all,
        _ code: ReplyCode,
        _ text: String,
        _ steps: @escaping @Sendable (String) -> [Step]
    ) {
        self.description = releases.named(name)
        self.releases = releases
        self.code = code
        self.text = text
        self.steps = steps
    }

    /// Runs the case and returns how the refusal differs from what it must be; nil when it does not.
    package func run(_ configuration: AMQPClientConfiguration) async throws -> String? {
        let name = Conformance.uniqueName()
        let client = try await ScriptedClient.connect(configuration)
        defer { client.drop() }
        try await client.login(configuration)
        var others: [ScriptedClient] = []
        defer { for other in others { other.drop() } }
        var blamed = MethodID(classID: 0, methodID: 0)
        for step in self.steps(name) {
            switch step {
            case .call(let method): try await client.call(method)
            case .send(let method, let channel):
                try client.send(method, on: channel)
                blamed = method.id
            case .publish(let exchange, let key, let immediate, let properties):
                try client.publish("x", to: exchange, key: key, immediate: immediate, properties: properties)
                blamed = Basic.Publish.id
            case .raw(let octets): client.sendRaw(octets)
            case .pipelined(let methods):
                client.sendRaw(try methods.flatMap { try ScriptedBroker.octets(of: $0, on: 1) })
                blamed = methods.last?.id ?? blamed
            case .elsewhere(let methods):
                let other = try await ScriptedClient.connect(configuration)
                others.append(other)
                try await other.login(configuration)
                for method in methods { try await other.call(method) }
            }
        }
        let close = try await client.expectClose()
        let text = self.text.split(separator: "$", omittingEmptySubsequences: false).joined(separator: name)
        let expected = "\(self.code.name ?? "") - \(text)"
        let hasText =
            expected.hasSuffix("…") ? close.text.hasPrefix(expected.dropLast()) : close.text == expected
        let isRight =
            close.code == self.code && hasText && close.method == blamed && close.isConnection == self.code.isHard
        if !close.isConnection { await Conformance.cleanUp(client, [name]) }
        if isRight { return nil }
        return "\(close.code), \"\(close.text)\", \(close.method), \(close.isConnection ? "connection" : "channel")"
    }
}

extension RefusalCase {
    private static let all: [RefusalCase] =
        queueRows + argumentRows + typeRows + lockedRows + exchangeRows + publishRows + consumeRows + connectionRows

    /// The cases that hold for a broker.
    package static func cases(for subject: ConformanceSubject) -> [RefusalCase] {
        self.all.filter { $0.releases.holds(subject) }
    }
}
