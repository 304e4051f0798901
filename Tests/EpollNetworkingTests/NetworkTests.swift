// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import EpollNetworking
import Glibc
import Testing

// NetworkTests: the suite of all tests that open descriptors or start threads, one after the other, because some of
// them count what the process holds. And the few helpers they share.

@Suite("Loops and sockets", .serialized)
struct NetworkTests {}

/// Waits for a condition, and lets others run meanwhile.
func eventually(_ condition: () -> Bool) async {
    let deadline = MonotonicTime.now + .seconds(30)
    var turns = 0
    while !condition() {
        if MonotonicTime.now > deadline {
            Issue.record("the condition did not come true in time")
            return
        }
        turns += 1
        // On few cores what is waited for needs the processor more than this does.
        if turns < 100 { await Task.yield() } else { try? await Task.sleep(for: .milliseconds(1)) }
    }
}

/// Waits until reading, or accepting, would not block: on the loopback too, octets, ends and connections may take a
/// moment.
func readable(_ descriptor: CInt) async { await ready(descriptor, POLLIN) }

/// As `readable`, for any of the events of poll(2); an error always counts.
func ready(_ descriptor: CInt, _ events: CInt) async {
    await eventually {
        var entry = pollfd(fd: descriptor, events: Int16(events), revents: 0)
        return poll(&entry, 1, 0) == 1
    }
}

/// Whether this machine has `::1`; containers often have not.
let hasIPv6: Bool = {
    do throws(SystemError) {
        try ListeningSocket(.loopbackV6(port: 0)).close()
        return true
    } catch { return false }
}()

/// Ends a test case that needs `::1` where there is none.
func requireFamily(of address: SocketAddress) throws {
    if address.family == AF_INET6, !hasIPv6 { try Test.cancel("this machine has no IPv6 loopback") }
}

/// Runs `body` on the loop's thread and hands its result back.
func onLoop<Value: Sendable>(_ loop: EventLoop, _ body: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
        loop.execute { continuation.resume(with: Result { try body() }) }
    }
}

/// The names in a directory of /proc.
private func entries(of path: String) -> [String]? {
    guard let directory = opendir(path) else { return nil }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
        // In place: the entry is no longer than its name, and a copy of the whole field would read beyond it.
        guard let offset = MemoryLayout<dirent>.offset(of: \.d_name) else { return nil }
        let name = (UnsafeRawPointer(entry) + offset).assumingMemoryBound(to: CChar.self)
        names.append(String(cString: name))
    }
    return names
}

/// How many entries a directory of /proc shows for this process.
func countEntries(_ path: String) -> Int { entries(of: path)?.count ?? -1 }

/// How many threads of this process have a name that begins so.
func countThreads(named name: String) -> Int {
    guard let threads = entries(of: "/proc/self/task") else { return -1 }
    var count = 0
    for id in threads {
        guard let file = fopen("/proc/self/task/\(id)/comm", "r") else { continue }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 32)
        guard fgets(&line, 32, file) != nil else { continue }
        if line.prefix(name.utf8.count).elementsEqual(name.utf8.map { CChar($0) }) { count += 1 }
    }
    return count
}

/// The sockets this process holds, by inode: what earlier tests leave behind may go at any time, so that only what is
/// new tells of a leak.
func openSockets() -> Set<String> {
    var sockets: Set<String> = []
    for name in entries(of: "/proc/self/fd") ?? [] {
        var target = [CChar](repeating: 0, count: 64)
        let count = readlink("/proc/self/fd/\(name)", &target, target.count)
        guard count > 0 else { continue }
        let link = String(decoding: target.prefix(count).map(UInt8.init(bitPattern:)), as: UTF8.self)
        if link.hasPrefix("socket:") { sockets.insert(link) }
    }
    return sockets
}

/// Something a test waits for, given from any thread.
final class Promise<Value: Sendable>: Sendable {
    private let state = Locked<(value: Value?, waiter: CheckedContinuation<Value, Never>?)>((nil, nil))

    func fulfil(_ value: Value) {
        let waiter = self.state.withLock { state in
            if state.waiter == nil { state.value = value }
            return state.waiter.take()
        }
        waiter?.resume(returning: value)
    }

    var value: Value {
        get async {
            await withCheckedContinuation { continuation in
                let ready = self.state.withLock { state in
                    if state.value == nil { state.waiter = continuation }
                    return state.value
                }
                if let ready { continuation.resume(returning: ready) }
            }
        }
    }
}

/// Loop work that calls a closure.
final class Work: LoopWork {
    private let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    func runOnLoop() { self.body() }
}

/// A handler that calls a closure.
final class Handler: SocketHandler, Sendable {
    private let body: @Sendable (ReadyEvents) -> Void
    init(_ body: @escaping @Sendable (ReadyEvents) -> Void) { self.body = body }
    func socketReady(_ events: ReadyEvents) { self.body(events) }
}

/// Values that a test collects on any thread.
final class Log<Element: Sendable>: Sendable {
    private let elements = Locked<[Element]>([])
    func append(_ element: Element) { self.elements.withLock { $0.append(element) } }
    var all: [Element] { self.elements.withLock { $0 } }
}

/// The octets that the process has allocated and not freed, as malloc_info(3) counts them.
///
/// Unlike the memory the machine has given, they do not depend on threads, cores and the order of things. Under a
/// sanitizer they do not change.
func allocatedOctets() throws -> Int {
    typealias Call = @convention(c) (CInt, UnsafeMutablePointer<FILE>) -> CInt
    let call = unsafeBitCast(try #require(dlsym(nil, "malloc_info")), to: Call.self)
    var text: UnsafeMutablePointer<CChar>?
    var size = 0
    let file = try #require(open_memstream(&text, &size))
    let code = call(0, file)
    fclose(file)
    defer { free(text) }
    try #require(code == 0)
    // The last of each is the sum of all arenas: <system type="current" size="..."/>
    let lines = String(cString: try #require(text)).split(separator: "\n")
    func octets(_ start: String) throws -> Int {
        let line = lines.last { $0.hasPrefix(start) }
        let numbers = line?.split(separator: "\"").compactMap { Int($0) } ?? []
        return try #require(numbers.last)
    }
    return try octets("<system type=\"current\"") + octets("<total type=\"mmap\"")
        - octets("<total type=\"rest\"") - octets("<total type=\"fast\"")
}

/// Two connected TCP sockets on the loopback.
func connectedPair(_ loop: EventLoop) async throws -> (client: StreamSocket, server: StreamSocket) {
    let listener = try ListeningSocket(.loopback(port: 0))
    defer { listener.close() }
    let address = try #require(listener.localAddress)
    let client = try await Connector.connect(to: address, deadline: .now + .seconds(10), on: loop)
    return (client, try await listener.next())
}

extension ListeningSocket {
    /// The next connection, which somebody has asked for.
    func next() async throws -> StreamSocket {
        await readable(self.descriptor)
        return try #require(try self.accept())
    }
}

extension StreamSocket {
    func send(_ octets: [UInt8]) -> IOResult { octets.withUnsafeBytes { self.write($0) } }

    func receive(_ capacity: Int = 4096) -> (IOResult, [UInt8]) {
        var octets = [UInt8](repeating: 0, count: capacity)
        let result = octets.withUnsafeMutableBytes { self.read(into: $0) }
        guard case .count(let count) = result else { return (result, []) }
        return (result, Array(octets.prefix(count)))
    }

    /// The next value.
    func arrived(_ capacity: Int = 4096) async -> (IOResult, [UInt8]) {
        await readable(self.descriptor)
        return self.receive(capacity)
    }
}
