// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import EpollNetworking
import Glibc

// ChildProcess: what a test does to a process of its own (an exit test): limits on descriptors, a network and a name
// service that belong to it alone, signals. Nothing here may run in the process of the other tests.

enum ChildProcess {
    /// A thing that could not be set up.
    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    // MARK: descriptors

    /// Runs `body` while no descriptor can be opened.
    static func withoutDescriptors<Result>(_ body: () async throws -> Result) async throws -> Result {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { throw Failure("getrlimit") }
        let before = limit
        var taken: [CInt] = []
        defer {
            var before = before
            _ = setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &before)
            for descriptor in taken { close(descriptor) }
        }
        limit.rlim_cur = 256
        guard setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { throw Failure("setrlimit") }
        while case let descriptor = dup(0), descriptor >= 0 { taken.append(descriptor) }
        return try await body()
    }

    // MARK: a network and a name service of one's own

    private typealias Call = @convention(c) (CInt) -> CInt
    private typealias Control = @convention(c) (CInt, UInt, UnsafeMutableRawPointer?) -> CInt
    private typealias Mount =
        @convention(c) (
            UnsafePointer<CChar>?, UnsafePointer<CChar>, UnsafePointer<CChar>?, UInt, UnsafeRawPointer?
        ) -> CInt

    private static func find<Function>(_ name: String, _ type: Function.Type) throws -> Function {
        guard let symbol = dlsym(nil, name) else { throw Failure("no \(name)") }
        return unsafeBitCast(symbol, to: type)
    }

    /// Whether this process may make namespaces.
    static var mayIsolate: Bool { geteuid() == 0 }

    /// Runs `body` on a thread with a separate network, which has only the loopback, and with this file in place
    /// of /etc/resolv.conf.
    ///
    /// Threads that are started by `body` are in that network too.
    static func isolated(resolver: String = "", _ body: @escaping @Sendable () async throws -> Void) async throws {
        let loop = try EventLoop(name: "isolated")
        let task = Task(executorPreference: loop) {
            let newNetwork: CInt = 0x4000_0000
            let newMounts: CInt = 0x0002_0000
            guard try Self.find("unshare", Call.self)(newNetwork | newMounts) == 0 else { throw Failure("unshare") }
            try Self.startLoopback()
            let file = "/tmp/amqp091-resolver-\(getpid())"
            try Self.write(resolver, to: file)
            defer { unlink(file) }
            let mount = try Self.find("mount", Mount.self)
            // MS_REC | MS_PRIVATE, so that nobody else sees it; MS_BIND.
            guard mount(nil, "/", nil, 1 << 14 | 1 << 18, nil) == 0,
                mount(file, "/etc/resolv.conf", nil, 1 << 12, nil) == 0
            else { throw Failure("mount") }
            try await body()
        }
        defer { loop.shutdown() }
        try await task.value
    }

    private static func startLoopback() throws {
        let socket = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        guard socket >= 0 else { throw Failure("socket") }
        defer { close(socket) }
        // struct ifreq: the name in 16 octets, then the flags.
        var request = [UInt8](repeating: 0, count: 40)
        request.replaceSubrange(0..<2, with: Array("lo".utf8))
        request[16] = UInt8(truncatingIfNeeded: 0x41)  // IFF_UP | IFF_RUNNING
        let setFlags: UInt = 0x8914
        let control = try Self.find("ioctl", Control.self)
        guard request.withUnsafeMutableBytes({ control(socket, setFlags, $0.baseAddress) }) == 0 else {
            throw Failure("the loopback cannot be started")
        }
    }

    static func write(_ text: String, to path: String) throws {
        guard let file = fopen(path, "w") else { throw Failure("\(path) cannot be written") }
        fputs(text, file)
        guard fclose(file) == 0 else { throw Failure("\(path) was not written") }
    }

    // MARK: signals

    /// Sends signals to this process until the result is called.
    static func storm(_ signals: [CInt]) throws -> @Sendable () -> Int {
        for number in signals {
            var action = sigaction()
            action.__sigaction_handler.sa_handler = { _ in }
            guard sigaction(number, &action, nil) == 0 else { throw Failure("sigaction") }
        }
        let state = Locked((isOver: false, count: 0))
        try LoopThread.start {
            while !state.withLock({ $0.isOver }) {
                for number in signals { kill(getpid(), number) }
                state.withLock { $0.count += signals.count }
                usleep(50)
            }
        }
        return {
            state.withLock { state in
                state.isOver = true
                return state.count
            }
        }
    }

    // MARK: memory

    /// Octets of this process in memory.
    static var residentOctets: Int {
        guard let file = fopen("/proc/self/statm", "r") else { return 0 }
        defer { fclose(file) }
        var buffer = [UInt8](repeating: 0, count: 200)
        let read = fread(&buffer, 1, buffer.count, file)
        let text = String(decoding: buffer.prefix(read), as: UTF8.self)
        let pages = text.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
        return pages * Int(sysconf(Int32(_SC_PAGESIZE)))
    }
}

extension ChildProcess.Failure {
    init(_ what: String) { self.description = "\(what): \(String(cString: strerror(errno)))" }
}
