// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Testing

@Suite("Connect errors", .enabled(if: TestBroker.uri != nil, TestBroker.isMissing), .timeLimit(.minutes(1)))
struct ConnectErrorTests {
    @Test(
        "F27, F28: a refused port and a name that does not exist are typed errors, safe to retry",
        arguments: [
            "amqp://127.0.0.1:1", "amqp://no-such-host.invalid",
        ]
    )
    func unreachable(_ uri: String) async throws {
        let configuration = try AMQPClientConfiguration(uri: uri)
        let error = await #expect(throws: AMQPError.self) { try await AMQPConnection.connect(configuration) }
        #expect(error?.code == .connectFailed)
        #expect(error?.isSafeToRetry == true)
    }
}
