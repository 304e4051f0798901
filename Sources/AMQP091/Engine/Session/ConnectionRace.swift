// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import EpollNetworking

// ConnectionRace: connects to the first of several addresses that finishes the login. The next address is started when
// one has failed, or has been silent for a while, beside it: a frozen node takes connections and answers nothing, so the
// race goes on until the login is done. The addresses of one host race below this, in the Connector.

struct ConnectionRace: Sendable {
    typealias Dial = @Sendable (AMQPServerAddress) async throws(AMQPError) -> AMQPConnection

    enum Result: Sendable {
        case connected(endpoint: Int, AMQPConnection)
        /// All failed; the last error.
        case failed(AMQPError)
        /// All failed, and the next attempt would fail the same way: the first refusal.
        case refused(AMQPError)
    }

    let addresses: [AMQPServerAddress]
    /// Indices into the addresses, the first to be tried first.
    let order: [Int]
    let attemptDelay: Duration
    /// Whether these credentials have never been accepted.
    let isFirst: Bool
    let dial: Dial

    private enum Event: Sendable {
        case ended(endpoint: Int, Swift.Result<AMQPConnection, AMQPError>)
        case delayOver(round: Int)
    }

    func run() async -> Result {
        await withTaskGroup(of: Event.self) { group in
            var waiting = self.order[...]
            var running: [Int] = []
            var round = 0
            var failure = AMQPError(.connectFailed, "no broker address is given", isSafeToRetry: true)
            var refusal: AMQPError?
            var result: Result?
            func startNext() {
                guard let endpoint = waiting.popFirst() else { return }
                running.append(endpoint)
                round += 1
                let (address, dial, current) = (self.addresses[endpoint], self.dial, round)
                group.addTask {
                    do throws(AMQPError) {
                        return .ended(endpoint: endpoint, .success(try await dial(address)))
                    } catch {
                        return .ended(endpoint: endpoint, .failure(error))
                    }
                }
                guard !waiting.isEmpty else { return }
                group.addTask {
                    try? await EventLoopGroup.shared.next().sleep(for: self.attemptDelay)
                    return .delayOver(round: current)
                }
            }
            startNext()
            while !running.isEmpty, let event = await group.next() {
                switch event {
                case .delayOver(let of):
                    if result == nil, of == round, !Task.isCancelled { startNext() }
                case .ended(let endpoint, .success(let connection)):
                    // Those that began before it and are not done are slower, or silent.
                    let slower = running.prefix { $0 != endpoint }
                    running.removeAll { $0 == endpoint }
                    guard result == nil else {
                        connection.abort()
                        continue
                    }
                    for endpoint in slower { AddressMemory.shared.failed(self.addresses[endpoint]) }
                    AddressMemory.shared.succeeded(self.addresses[endpoint])
                    result = .connected(endpoint: endpoint, connection)
                    group.cancelAll()
                case .ended(let endpoint, .failure(let error)):
                    running.removeAll { $0 == endpoint }
                    guard result == nil else { continue }
                    AddressMemory.shared.failed(self.addresses[endpoint])
                    failure = error
                    // Another address may know better: a refusal is final once all were tried.
                    if error.disposition(for: self.isFirst ? .firstConnect : .laterConnect) == .end {
                        refusal = refusal ?? error
                    }
                    if !Task.isCancelled { startNext() }
                }
            }
            group.cancelAll()
            return result ?? refusal.map { .refused($0) } ?? .failed(failure)
        }
    }
}
