// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import Testing

@Suite("Retry delay")
struct RetryDelayTests {
    @Test(
        "The first failure is rejected at once, later ones after a delay that doubles up to a bound",
        arguments: [
            (Int64.min, 0), (-1, 0), (0, 0), (1, 100), (2, 200), (3, 400), (4, 800), (5, 1600), (6, 2000), (7, 2000),
            (Int64.max, 2000),
        ] as [(Int64, Int)]
    )
    func counted(_ failures: Int64, _ milliseconds: Int) {
        #expect(RetryDelay.delay(failures: failures) == .milliseconds(milliseconds))
    }

    @Test("Without a count of failures the delay is a second")
    func unknown() { #expect(RetryDelay.delay(failures: nil) == .seconds(1)) }
}
