// SPDX-License-Identifier: Apache-2.0
import Glibc
import Testing

@testable import AMQPBench

// DockerBrokerTests: what is said where one half of Docker is missing. Each in a process of its own, for its environment.

@Suite("Broker in a container", .timeLimit(.minutes(1)))
struct DockerBrokerTests {
    @Test("Without the client, its name and another way are in the text")
    func noClient() async {
        await #expect(processExitsWith: .success) {
            setenv("PATH", "/nowhere", 1)
            let error = await #expect(throws: BenchFailure.self) {
                try await DockerBroker.with(tag: "4", say: { _ in }) { _ in }
            }
            #expect(error?.status == ExitStatus.unavailable)
            #expect(error?.description.contains("no program docker in PATH") == true)
            #expect(error?.description.contains("--broker rabbitmq") == true)
        }
    }

    @Test(
        "Without an engine, that and what the client said are in the text",
        .enabled(if: access("/usr/bin/docker", X_OK) == 0, "there is no /usr/bin/docker here")
    )
    func noEngine() async {
        await #expect(processExitsWith: .success) {
            setenv("PATH", "/usr/bin", 1)
            setenv("DOCKER_HOST", "unix:///nowhere/docker.sock", 1)
            let error = await #expect(throws: BenchFailure.self) {
                try await DockerBroker.with(tag: "4", say: { _ in }) { _ in }
            }
            #expect(error?.status == ExitStatus.unavailable)
            #expect(error?.description.contains("no engine answers it") == true)
        }
    }
}
