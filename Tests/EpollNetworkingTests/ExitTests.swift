// SPDX-License-Identifier: Apache-2.0
#if TLS
    import Glibc
    import Testing

    @testable import EpollNetworking

    // ExitTests: a process that exits while its threads are inside OpenSSL. The test starts this program again, as a child that
    // runs one test, which exits in the middle of its traffic.

    extension NetworkTests {
        @Suite("Exit with TLS in use", .timeLimit(.minutes(2)))
        struct ExitTests {
            static let variable = "EPOLL_TEST_EXITS"
            static var isChild: Bool { getenv(Self.variable) != nil }

            @Test("A process that exits while its threads encrypt does not crash", .enabled(if: !isChild))
            func exits() throws {
                // The files are made once.
                _ = try Certificates.server()
                for _ in 0..<12 {
                    let status = try Self.runChild("ExitTests/child")
                    #expect(status == 7 << 8, "wait status \(status): the child ended by a signal, or before its exit")
                    if status != 7 << 8 { return }
                }
            }

            @Test("In the child: exit during traffic", .enabled(if: isChild))
            func child() async throws {
                let server = try Certificates.server()
                let client = try Certificates.client()
                let listener = try await StreamListener.listen(on: .loopback(port: 0))
                let octets = [UInt8](repeating: 1, count: 4000)
                let address = listener.localAddress
                Task.detached {
                    try await listener.serve(tls: server) { connection in
                        for try await chunk in connection.inbound { try await connection.write(chunk) }
                    }
                }
                for _ in 0..<8 {
                    Task.detached {
                        while true {
                            let connection = try await StreamConnection.connect(to: address)
                            try await connection.startTLS(client, host: "localhost")
                            for _ in 0..<20 {
                                try await connection.write(octets)
                                _ = try await connection.read(exactly: octets.count)
                            }
                            connection.close()
                        }
                    }
                }
                try await Task.sleep(for: .milliseconds(60 + Int(getpid()) % 40))
                exit(7)
            }

            /// Runs one test of this program in another process; its wait status.
            static func runChild(_ test: String) throws -> CInt {
                let path = try #require(realpath("/proc/self/exe", nil))
                defer { free(path) }
                let arguments = [String(cString: path), "--testing-library", "swift-testing", "--filter", test]
                var argv = arguments.map { strdup($0) } + [nil]
                var environment = [strdup("\(Self.variable)=1"), strdup("SWIFT_BACKTRACE=enable=no")]
                for name in ["PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "TSAN_OPTIONS", "ASAN_OPTIONS"] {
                    if let value = getenv(name) { environment.append(strdup("\(name)=\(String(cString: value))")) }
                }
                environment.append(nil)
                defer { for string in argv + environment { free(string) } }
                var actions = posix_spawn_file_actions_t()
                posix_spawn_file_actions_init(&actions)
                defer { posix_spawn_file_actions_destroy(&actions) }
                for descriptor in [STDOUT_FILENO, STDERR_FILENO] {
                    posix_spawn_file_actions_addopen(&actions, descriptor, "/dev/null", O_WRONLY, 0)
                }
                var child: pid_t = 0
                try #require(posix_spawn(&child, path, &actions, nil, &argv, &environment) == 0)
                var status: CInt = 0
                while waitpid(child, &status, 0) < 0, errno == EINTR {}
                return status
            }
        }
    }
#endif
