// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import EpollNetworking

// ClientTarget: the whole client, its loop and its socket included, with a broker that says what the input says: instead of
// a login, behind a login, or to a client that waits for a confirm, a reply and deliveries at once. Whatever it is, every
// call of the client ends when the link does.

enum ClientTarget {
    static func run(_ octets: [UInt8]) {
        var input = FuzzInput(octets)
        let order = input.octet()
        let piece = Int(input.octet())
        guard let (near, far) = try? StreamSocket.pair() else { return }
        let peer = RawPeer(near)
        let completion = Completion()
        Task {
            await Self.use(far)
            completion.complete()
        }
        if order % 4 > 0 { Self.login(peer) }
        if order % 4 > 1 { Self.open(peer) }
        var rest = input.rest()[...]
        while piece > 0, rest.count > piece {
            peer.send(Array(rest.prefix(piece)))
            rest = rest.dropFirst(piece)
        }
        peer.send(Array(rest))
        peer.finish()
        completion.wait("the client")
    }

    private static func login(_ peer: RawPeer) {
        peer.send(.connectionStart(ScriptedBroker.start))
        peer.send(.connectionTune(.init(channelMax: 4, frameMax: 8192, heartbeat: 0)))
        peer.send(.connectionOpenOk(.init()))
    }

    /// Answers until the client has published, declares a queue and consumes.
    private static func open(_ peer: RawPeer) {
        while let method = peer.method() {
            switch method {
            case .channelOpen: peer.send(.channelOpenOk(.init()), on: 1)
            case .confirmSelect: peer.send(.confirmSelectOk(.init()), on: 1)
            case .basicConsume(let consume):
                peer.send(.basicConsumeOk(.init(consumerTag: consume.consumerTag)), on: 1)
            case .queueDeclare: return
            default: break
            }
        }
    }

    private static func use(_ socket: StreamSocket) async {
        var configuration = AMQPClientConfiguration()
        configuration.heartbeat = .zero
        configuration.connectTimeout = .seconds(60)
        configuration.operationTimeout = .seconds(60)
        configuration.maximumBodySize = 64 << 10
        guard let connection = try? await AMQPConnection.connect(over: socket, configuration) else { return }
        if let channel = try? await connection.openChannel() { await Self.use(channel) }
        _ = try? await connection.waitUntilClosed()
        connection.abort()
    }

    private static func use(_ channel: AMQPChannel) async {
        do {
            try await channel.enableConfirms()
            let deliveries = try await channel.deliveries(from: "q", consumerTag: "c")
            await withTaskGroup(of: Void.self) { group in
                group.addTask { _ = try? await channel.publishAndConfirm("m", to: .queue("q"), mandatory: true) }
                group.addTask {
                    do {
                        for try await delivery in deliveries {
                            _ = (try? delivery.properties(), delivery.routingKey, delivery.exchange)
                            _ = delivery.body.string
                            try delivery.ack()
                        }
                    } catch {
                        // The end of the consumer.
                    }
                }
                group.addTask {
                    _ = try? await channel.declareQueue("q")
                    _ = try? await channel.get("q")
                }
            }
        } catch {
            // The end of the channel.
        }
    }
}
