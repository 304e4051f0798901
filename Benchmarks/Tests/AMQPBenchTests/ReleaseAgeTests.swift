// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import AMQPBench

@Suite("Age of a release")
struct ReleaseAgeTests {
    @Test(
        "An old RabbitMQ is named with its version and the option for a current one",
        arguments: ["3.10.8", "3.13.7"]
    )
    func old(_ version: String) {
        let hint = ReleaseAge.hint(forVersion: version)
        #expect(hint?.contains(version) == true)
        #expect(hint?.contains("--broker rabbitmq:4.3") == true)
    }

    @Test("A maintained or unknown one is not", arguments: ["4.0.5", "4.3.6", "5.0", "", "unknown"])
    func current(_ version: String) { #expect(ReleaseAge.hint(forVersion: version) == nil) }
}
