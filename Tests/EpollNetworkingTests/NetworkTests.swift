// SPDX-License-Identifier: Apache-2.0
import EpollNetworking
import Glibc
import Testing

// NetworkTests: the suite of all tests that open descriptors or start threads, one after the other, because some of
// them count what the process holds. And the few helpers they share.

@Suite("Loops and sockets", .serialized)
struct NetworkTests {}

/// Runs `body` on the loop's thread and hands its result back.
func onLoop<Value: Sendable>(_ loop: EventLoop, _ body: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
        loop.execute { continuation.resume(with: Result { try body() }) }
    }
}

/// How many entries a directory of /proc shows for this process.
func countEntries(_ path: String) -> Int {
    guard let directory = opendir(path) else { return -1 }
    defer { closedir(directory) }
    var count = 0
    while readdir(directory) != nil { count += 1 }
    return count
}

/// The sockets this process holds, by inode: what earlier tests leave behind may go at any time, so that only what is
/// new tells of a leak.
func openSockets() -> Set<String> {
    guard let directory = opendir("/proc/self/fd") else { return [] }
    defer { closedir(directory) }
    var sockets: Set<String> = []
    while let entry = readdir(directory) {
        let name = withUnsafeBytes(of: entry.pointee.d_name) { name in
            String(decoding: name.prefix { $0 != 0 }, as: UTF8.self)
        }
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

/// What a test collects on some thread.
final class Log<Element: Sendable>: Sendable {
    private let elements = Locked<[Element]>([])
    func append(_ element: Element) { self.elements.withLock { $0.append(element) } }
    var all: [Element] { self.elements.withLock { $0 } }
}

/// Two connected TCP sockets on the loopback.
func connectedPair(_ loop: EventLoop) async throws -> (client: StreamSocket, server: StreamSocket) {
    let listener = try ListeningSocket(.loopback(port: 0))
    defer { listener.close() }
    let address = try #require(listener.localAddress)
    let client = try await Connector.connect(to: address, deadline: .now + .seconds(10), on: loop)
    let server = try #require(try listener.accept())
    return (client, server)
}

extension StreamSocket {
    func send(_ octets: [UInt8]) -> IOResult { octets.withUnsafeBytes { self.write($0) } }

    func receive(_ capacity: Int = 4096) -> (IOResult, [UInt8]) {
        var octets = [UInt8](repeating: 0, count: capacity)
        let result = octets.withUnsafeMutableBytes { self.read(into: $0) }
        guard case .count(let count) = result else { return (result, []) }
        return (result, Array(octets.prefix(count)))
    }
}
