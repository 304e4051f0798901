// SPDX-License-Identifier: Apache-2.0
import AMQP091Testing
import AMQP091Wire
import EpollNetworking

// BrokerTarget: a client of the in-process broker that says what the input says, from its first octet or behind a login.
// The broker forgets it when it leaves, and serves the next one.

enum BrokerTarget {
    static func run(_ octets: [UInt8]) {
        var input = FuzzInput(octets)
        let order = input.octet()
        let completion = Completion()
        let rest = input.rest()
        guard let (near, far) = try? StreamSocket.pair(), let (second, fourth) = try? StreamSocket.pair() else {
            return
        }
        Task {
            var options = InProcessBroker.Options()
            options.endpoints = []
            options.maximumMessageSize = 64 << 10
            guard let broker = try? await InProcessBroker(options) else { fatalError("no broker") }
            await broker.serve(far)
            await broker.serve(fourth)
            do { try await broker.waitUntilNobodyIsConnected() } catch { fatalError("\(error)") }
            await broker.shutdown()
            completion.complete()
        }
        let peer = RawPeer(near)
        if order & 1 == 1 { peer.send(Self.login) }
        peer.send(rest)
        peer.finish()
        let next = RawPeer(second)
        next.send(Self.login)
        var isServed = false
        while !isServed, let method = next.method() { if case .channelOpenOk = method { isServed = true } }
        promise(isServed, "the broker does not serve the next client")
        next.finish()
        completion.wait("the broker")
    }

    private static let login: [UInt8] = {
        let startOk = Connection.StartOk(
            clientProperties: [
                "capabilities": .table(FieldTable(ScriptedClient.capabilities.map { ($0, .bool(true)) }))
            ],
            mechanism: "PLAIN",
            response: Array("\0guest\0guest".utf8),
            locale: "en_US"
        )
        let methods: [(Method, UInt16)] = [
            (.connectionStartOk(startOk), 0),
            (.connectionTuneOk(.init(channelMax: 10, frameMax: 8192, heartbeat: 0)), 0),
            (.connectionOpen(.init(virtualHost: "/")), 0),
            (.channelOpen(.init()), 1),
        ]
        return methods.reduce(Frame.protocolHeader) { octets, step in
            octets + ((try? ScriptedBroker.octets(of: step.0, on: step.1)) ?? [])
        }
    }()
}
