// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Testing
import AMQP091Wire
import EpollConcurrency
import EpollNetworking
import SecretValues
import Testing

@testable import AMQP091

// SecretTests: no text of any kind made from a value shows a password in it. Looked for in descriptions, debug
// descriptions, dumps, and every child that reflection reaches, octets included.

@Suite("Secrets", .timeLimit(.minutes(1)))
struct SecretTests {
    static let left = "LEFTs3cret"
    static let right = "RIGHTs3cret"
    static let secret = left + right

    /// A named value that holds the secret.
    struct Row: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let make: @Sendable () throws -> Any
    }

    static let rows = [
        Row(testDescription: "AMQPURI") { try AMQPURI("amqp://user:\(secret)@host/v") },
        Row(testDescription: "AMQPURI.parameters") { try AMQPURI("amqps://host?password=\(secret)").parameters },
        Row(testDescription: "AMQPURI.Parameter") { try AMQPURI("amqps://host?password=\(secret)").parameters[0] },
        Row(testDescription: "AMQPURI with a raw & in the password of a key") {
            try AMQPURI("amqps://host?password=x&\(secret)=1&\(secret)")
        },
        Row(testDescription: "AMQPAuthentication PLAIN") {
            AMQPAuthentication.plain(username: "user", password: secret)
        },
        Row(testDescription: "AMQPAuthentication AMQPLAIN") {
            AMQPAuthentication.plain(username: "user", password: secret, mechanisms: [.amqplain])
        },
        Row(testDescription: "AMQPCredentials") { AMQPCredentials(username: "user", password: secret) },
        Row(testDescription: "AMQPCredentialsProvider") { AMQPCredentialsProvider { ("user", secret) } },
        Row(testDescription: "AMQPTLSConfiguration") {
            AMQPTLSConfiguration.require(certificateChain: "c", privateKey: "k", privateKeyPassword: secret)
        },
        Row(testDescription: "TLSConfiguration") {
            var configuration = TLSConfiguration.identity(certificateChain: "c", privateKey: "k")
            configuration.privateKeyPassword = secret
            return configuration
        },
        Row(testDescription: "AMQPClientConfiguration") {
            var configuration = try AMQPClientConfiguration(uri: "amqp://user:\(secret)@host/v")
            configuration.tls = .require(privateKeyPassword: secret)
            return configuration
        },
        Row(testDescription: "AMQPConnection.ConnectError of a configuration in an optional in an array") {
            let configuration: AMQPClientConfiguration? = try AMQPClientConfiguration(uri: "amqp://u:\(secret)@h")
            return ["a": [configuration]]
        },
        Row(testDescription: "InProcessBroker.Options") {
            var options = InProcessBroker.Options()
            options.users = ["user": secret]
            return options
        },
        Row(testDescription: "SASLMechanism PLAIN") {
            SASLMechanism.plain(user: "u", password: .init(wrappedValue: secret))
        },
        Row(testDescription: "SASLMechanism AMQPLAIN") {
            SASLMechanism.amqplain(user: "u", password: .init(wrappedValue: secret))
        },
        Row(testDescription: "connection.start-ok") {
            Method.connectionStartOk(.init(clientProperties: [:], mechanism: "PLAIN", response: octets, locale: ""))
        },
        Row(testDescription: "connection.secure-ok") { Method.connectionSecureOk(.init(response: octets)) },
        Row(testDescription: "connection.update-secret") {
            Method.connectionUpdateSecret(.init(newSecret: octets, reason: "r"))
        },
        Row(testDescription: "Secret of a dictionary") { Secret(wrappedValue: ["user": secret]) },
    ]

    static var octets: [UInt8] { Array("\0user\0\(secret)".utf8) }

    @Test("No text or reflection of a value shows the secret in it", arguments: rows)
    func values(_ row: Row) throws {
        expectHidden(try row.make())
    }

    @Test("No text or reflection of a connection that stands shows a password", .timeLimit(.minutes(1)))
    func live() async throws {
        var options = InProcessBroker.Options()
        options.users = ["user": Self.secret]
        try await InProcessBroker.withBroker(options) { broker in
            let connection = try await broker.connect()
            try await connection.updateSecret(Self.secret, reason: "test")
            let channel = try await connection.openChannel()
            expectHidden(broker)
            expectHidden(broker.configuration)
            expectHidden(channel)
            expectHidden(connection)
            expectHidden(connection.driver.configuration)
            connection.driver.state.withLock { state in
                #expect(state.updatedSecret == Self.secret)
            }
            let client = AMQPClient(broker.configuration)
            expectHidden(client)
            try await connection.close()
            expectHidden(connection)
        }
    }

    @Test("The error of a refused login does not show the password")
    func refused() async throws {
        try await InProcessBroker.withBroker { broker in
            for mechanism in [AMQPAuthentication.Mechanism.plain, .amqplain] {
                var configuration = broker.configuration
                configuration.authentication = .plain(
                    username: "guest",
                    password: Self.secret,
                    mechanisms: [mechanism]
                )
                let error = await #expect(throws: AMQPError.self) { try await AMQPConnection.connect(configuration) }
                expectHidden(error as Any)
            }
        }
    }

    static let separators = [
        "?", "/", "#", "@", ":", "[", "]", "%", "%zz", "%f", "%ff", "%00", "&", "=", "?a=", "&a=", "@?", "?@", "/@",
        "@/",
        "//", "://", " ", "\\", "\u{0}", "\"", "é", "??", "##", "@@", "::", ":@", "@:", "?/", "/?", "#@", "?heartbeat=",
        "?channel_max=1&", "?verify=", "?auth_mechanism=", "?password=",
    ]
    static let frames: [(String, String)] = [
        ("amqp://user:", "@host/"), ("amqp://user:", "@host"), ("amqp://user:", "@host:5672/v?heartbeat=1"),
        ("amqps://user:", "@host/v"), ("amqps://user:x@host?password=", "&verify=verify_none"),
        ("amqps://host?keyfile=a&password=", ""), ("amqp+unix://user:", "@%2Fsocket/"), ("http://user:", "@host/"),
        ("amqp:/user:", "@host"), ("amqp//user:", "@host"), ("", "://user@host"), ("amqp://user:", "@host:port"),
        ("amqp://user:", "@[::1/"), ("amqp://user:", "@::1/"), ("amqp://user:", "@host/a/b"), ("amqp://user:", "@h#f"),
        ("amqp://user:", "@h/%zz"), ("amqp://user:", "@h?colour=red"), ("amqp://user:", "@h?colour"),
        ("amqp://user:?", "@host/"), ("amqp://user:/", "@host/"), ("amqp://user:#", "@host/"), ("amqp://:?", "@h"),
        ("amqp://?", "@host/"), ("amqp:///", "@host"), ("amqp://user:12/", "@host"), ("amqp://user:12?", "@host"),
    ]

    @Test(
        "A URI whose password has a raw separator is read or refused, and nothing shows the password",
        arguments: frames
    )
    func malformed(_ before: String, _ after: String) {
        for separator in Self.separators {
            for text in [
                before + Self.left + separator + Self.right + after, before + separator + Self.secret + after,
                before + Self.secret + separator + after,
            ] {
                do {
                    let uri = try AMQPURI(text)
                    expectHidden(uri.parameters, because: text)
                    // A user name or a host is shown: a text can be meant so only if it says so.
                    let isShown = uri.username.contains("s3cret") || uri.host.contains("s3cret")
                    if isShown {
                        #expect(!after.contains("@") || separator.contains("@"), "\(text)")
                    } else {
                        expectHidden(uri, because: text)
                    }
                } catch { expectHidden(error, because: text) }
                do { expectHidden(try AMQPClientConfiguration(uri: text).authentication, because: text) } catch {
                    expectHidden(error, because: text)
                }
            }
        }
    }

    @Test(
        "A raw ? or / in a password is named in the error",
        arguments: ["amqp://user:?SECRET@host/", "amqp://u:1/S@h"]
    )
    func explained(_ text: String) {
        let error = #expect(throws: AMQPError.self) { try AMQPURI(text) }
        #expect(error?.description.contains("in a password") == true)
        #expect(error?.description.contains("SECRET") == false)
    }

    @Test("Secrets are read back, and compared by what they are")
    func usable() throws {
        var uri = try AMQPURI("amqps://user:a@host?password=b")
        #expect(uri.password == "a")
        #expect(uri.parameters[0].value == "b")
        uri.password = "c"
        #expect(try uri != AMQPURI("amqps://user:a@host?password=b"))
        #expect(AMQPCredentials(username: "u", password: "a") != AMQPCredentials(username: "u", password: "b"))
        var tls = AMQPTLSConfiguration.require(privateKeyPassword: "k")
        #expect(tls.privateKeyPassword == "k")
        tls.privateKeyPassword = "l"
        #expect(tls != .require(privateKeyPassword: "k"))
        #expect("\(uri.parameters)" == "[password=***]")
    }
}

/// Looks for the secret, whole or in its halves, in every text and every child that can be had from a value.
private func expectHidden(
    _ value: Any,
    because reason: String = "",
    sourceLocation: SourceLocation = #_sourceLocation
) {
    var texts = ["\(value)", String(describing: value), String(reflecting: value)]
    var dumped = ""
    dump(value, to: &dumped, maxDepth: 12, maxItems: 20_000)
    texts.append(dumped)
    var seen = Set<ObjectIdentifier>()
    collect(value, into: &texts, seen: &seen, depth: 0)
    let found = texts.first { $0.contains("s3cret") }
    #expect(found == nil, "\(reason)", sourceLocation: sourceLocation)
}

private func collect(_ value: Any, into texts: inout [String], seen: inout Set<ObjectIdentifier>, depth: Int) {
    guard depth < 14, texts.count < 50_000 else { return }
    switch value {
    case let octets as [UInt8]: return texts.append(String(decoding: octets, as: UTF8.self))
    case let octets as ContiguousArray<UInt8>: return texts.append(String(decoding: octets, as: UTF8.self))
    case let octets as ArraySlice<UInt8>: return texts.append(String(decoding: octets, as: UTF8.self))
    case let text as String: return texts.append(text)
    default: break
    }
    let mirror = Mirror(reflecting: value)
    if mirror.displayStyle == .class {
        guard seen.insert(ObjectIdentifier(value as AnyObject)).inserted else { return }
    }
    for child in mirror.children { collect(child.value, into: &texts, seen: &seen, depth: depth + 1) }
}
