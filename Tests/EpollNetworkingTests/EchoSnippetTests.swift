// SPDX-License-Identifier: Apache-2.0
import EpollNetworking
import Glibc
import Testing

// EchoSnippetTests: the programs of the tutorial, run as a reader would run them. The build has put them beside the tests.

extension NetworkTests {
    @Suite("Echo programs", .timeLimit(.minutes(2)))
    struct EchoSnippetTests {
        @Test("What the client says comes back from the server")
        func echo() async throws {
            let port = try freePort()
            let server = try Program("echo-server", "\(port)")
            defer { server.kill() }
            // It listens as soon as somebody gets in.
            var isUp = false
            for _ in 0..<3000 where !isUp {
                do throws(NetworkError) {
                    try await StreamConnection.connect(to: .loopback(port: port)).close()
                    isUp = true
                } catch {
                    #expect(error.kind == .refused)
                    try await Task.sleep(for: .milliseconds(10))
                }
            }
            #expect(isUp)
            for _ in 0..<2 {
                let client = try Program("echo-client", "\(port)")
                #expect(await client.exitStatus() == 0)
                #expect(client.output == "hello\n")
            }
        }

        @Test("A client that finds no server says so and fails")
        func refused() async throws {
            let client = try Program("echo-client", "\(freePort())")
            #expect(await client.exitStatus() != 0)
            #expect(client.output.contains("refused the connection"))
        }

        #if TLS
            @Test("The program with TLS echoes under a current version")
            func secure() async throws {
                let program = try Program("echo-tls", Certificates.directory)
                #expect(await program.exitStatus() == 0)
                let lines = program.output.split(separator: "\n")
                #expect(lines.first?.hasPrefix("TLSv1.3, TLS_") == true, "\(program.output)")
                #expect(lines.last == "hello")
            }
        #endif

        private func freePort() throws -> UInt16 {
            let listener = try ListeningSocket(.loopback(port: 0))
            defer { listener.close() }
            return try #require(listener.localAddress?.port)
        }
    }
}

/// A program that was built beside the tests, with what it prints in a file.
private final class Program {
    private let process: pid_t
    private let file: String
    private var status: CInt?

    init(_ name: String, _ argument: String) throws {
        var path = [CChar](repeating: 0, count: 4096)
        let count = readlink("/proc/self/exe", &path, path.count)
        try #require(count > 0)
        let own = String(decoding: path.prefix(count).map(UInt8.init(bitPattern:)), as: UTF8.self)
        let program = own.split(separator: "/").dropLast().map { "/\($0)" }.joined() + "/\(name)"
        let file = "/tmp/epoll-net-\(name)-\(getpid())-\(argument.utf8.reduce(0) { $0 &* 31 &+ Int($1) }.magnitude)"
        self.file = file
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 1, file, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        posix_spawn_file_actions_adddup2(&actions, 1, 2)
        var process: pid_t = 0
        var arguments: [UnsafeMutablePointer<CChar>?] = [strdup(program), strdup(argument), nil]
        defer { for argument in arguments { free(argument) } }
        let code = posix_spawn(&process, program, &actions, nil, &arguments, environ)
        try #require(code == 0, "\(program) cannot be started: \(String(cString: strerror(code)))")
        self.process = process
    }

    deinit {
        self.kill()
        unlink(self.file)
    }

    /// Standard output and error so far.
    var output: String {
        guard let stream = fopen(self.file, "r") else { return "" }
        defer { fclose(stream) }
        var octets = [UInt8](repeating: 0, count: 4096)
        let count = fread(&octets, 1, octets.count, stream)
        return String(decoding: octets.prefix(count), as: UTF8.self)
    }

    /// Waits for its end.
    func exitStatus() async -> CInt? {
        var status: CInt = 0
        await eventually { waitpid(self.process, &status, WNOHANG) == self.process }
        self.status = status
        return status
    }

    func kill() {
        guard self.status == nil else { return }
        Glibc.kill(self.process, SIGKILL)
        var status: CInt = 0
        waitpid(self.process, &status, 0)
        self.status = status
    }
}
