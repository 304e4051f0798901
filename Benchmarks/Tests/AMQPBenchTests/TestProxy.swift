// SPDX-License-Identifier: Apache-2.0
import Foundation
import Glibc
import Synchronization

// TestProxy: stands between the tool and a broker and does to the stream what the report must then say: holds everything
// back for a time, delays it, and drops, duplicates, swaps or corrupts deliveries. It understands frames, no more.
// Blocking threads: two for each direction of a connection, so that a delay does not slow the stream down.

/// A proxy on loopback.
final class TestProxy: Sendable {
    /// What is done to a delivery.
    enum Action: Sendable { case drop, duplicate, swapWithNext, corrupt }

    private struct State {
        var isStalled = false
        var isClosed = false
        var delay: UInt64 = 0
        /// By number of the delivery, from 0, over all connections.
        var actions: [Int: Action] = [:]
        var deliveries = 0
        var descriptors: [Int32] = []
    }

    private let state = Mutex(State())
    private let listener: Int32
    private let target: UInt16
    let port: UInt16

    /// A proxy to a port of loopback.
    init(to target: UInt16, delay: Duration = .zero, actions: [Int: Action] = [:]) throws {
        self.target = target
        self.listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = Self.address(0)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let listener = self.listener
        let isListening = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, length) == 0 && listen(listener, 64) == 0 && getsockname(listener, $0, &length) == 0
            }
        }
        guard isListening else { throw CocoaError(.fileReadUnknown) }
        self.port = UInt16(bigEndian: address.sin_port)
        self.state.withLock {
            $0.delay = UInt64(delay / .nanoseconds(1))
            $0.actions = actions
            $0.descriptors = [listener]
        }
        Thread.detachNewThread { self.accept() }
    }

    var uri: String { "amqp://guest:guest@127.0.0.1:\(self.port)" }

    /// Holds back everything in both directions, or lets it go on.
    func stall(_ isStalled: Bool) { self.state.withLock { $0.isStalled = isStalled } }

    /// Deliveries that have passed or were dropped.
    var deliveries: Int { self.state.withLock { $0.deliveries } }

    func close() {
        let descriptors = self.state.withLock { state in
            state.isClosed = true
            defer { state.descriptors = [] }
            return state.descriptors
        }
        for descriptor in descriptors { _ = shutdown(descriptor, Int32(SHUT_RDWR)) }
    }

    private static func address(_ port: UInt16) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        return address
    }

    private func accept() {
        while true {
            let client = Glibc.accept(self.listener, nil, nil)
            guard client >= 0 else { return }
            let broker = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            var address = Self.address(self.target)
            let isConnected = withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    connect(broker, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
                }
            }
            var one: Int32 = 1
            for descriptor in [client, broker] {
                setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
            }
            guard isConnected else { continue }
            self.state.withLock { $0.descriptors += [client, broker] }
            self.pump(from: client, to: broker, isFromBroker: false)
            self.pump(from: broker, to: client, isFromBroker: true)
        }
    }

    private func pump(from source: Int32, to sink: Int32, isFromBroker: Bool) {
        let pipe = Pipe()
        let needsFrames = isFromBroker && self.state.withLock { !$0.actions.isEmpty }
        Thread.detachNewThread {
            var buffer = [UInt8](repeating: 0, count: 1 << 16)
            var editor = DeliveryEditor()
            while true {
                let count = read(source, &buffer, buffer.count)
                guard count > 0 else { break }
                let octets = Array(buffer[0..<count])
                let (delay, out) = self.state.withLock { state in
                    (state.delay, needsFrames ? editor.edit(octets, &state.deliveries, state.actions) : octets)
                }
                pipe.put(out, at: Self.now + delay)
            }
            pipe.put(nil, at: 0)
        }
        Thread.detachNewThread {
            while let (octets, due) = pipe.take() {
                while Self.now < due || self.state.withLock({ $0.isStalled && !$0.isClosed }) { usleep(200) }
                var done = 0
                while done < octets.count {
                    let count = octets.withUnsafeBytes { send(sink, $0.baseAddress! + done, $0.count - done, 0x4000) }
                    guard count > 0 else { break }
                    done += count
                }
            }
            _ = shutdown(sink, Int32(SHUT_WR))
        }
    }

    private static var now: UInt64 { DispatchTime.now().uptimeNanoseconds }

    /// Octets on their way.
    private final class Pipe: @unchecked Sendable {
        private let condition = NSCondition()
        private var items: [([UInt8]?, UInt64)] = []

        func put(_ octets: [UInt8]?, at due: UInt64) {
            self.condition.withLock { self.items.append((octets, due)) }
            self.condition.signal()
        }

        func take() -> ([UInt8], UInt64)? {
            self.condition.lock()
            defer { self.condition.unlock() }
            while self.items.isEmpty { self.condition.wait() }
            let (octets, due) = self.items.removeFirst()
            return octets.map { ($0, due) }
        }
    }
}

/// Cuts a stream of a broker into frames and does to its deliveries what it is told.
struct DeliveryEditor {
    private var left: [UInt8] = []
    /// The frames of a delivery that is not complete.
    private var delivery: [UInt8] = []
    private var bodyLeft: UInt64 = 0
    private var isInDelivery = false
    /// One that changes places with the next.
    private var held: [UInt8] = []

    /// What to pass on of some octets.
    mutating func edit(_ octets: [UInt8], _ count: inout Int, _ actions: [Int: TestProxy.Action]) -> [UInt8] {
        self.left += octets
        var out: [UInt8] = []
        var place = 0
        while self.left.count - place >= 8 {
            let size = self.left[(place + 3)..<(place + 7)].reduce(0) { $0 << 8 | Int($1) }
            guard self.left.count - place >= size + 8 else { break }
            self.take(Array(self.left[place..<(place + size + 8)]), &out, &count, actions)
            place += size + 8
        }
        self.left.removeFirst(place)
        return out
    }

    private mutating func take(
        _ frame: [UInt8],
        _ out: inout [UInt8],
        _ count: inout Int,
        _ actions: [Int: TestProxy.Action]
    ) {
        // basic.deliver (60, 60)
        if frame[0] == 1, frame.count >= 12, frame[7...10].elementsEqual([0, 60, 0, 60]) {
            (self.isInDelivery, self.delivery) = (true, frame)
            return
        }
        guard self.isInDelivery, frame[0] == 2 || frame[0] == 3 else {
            out += frame
            return
        }
        self.delivery += frame
        if frame[0] == 2 {
            self.bodyLeft = frame[11..<19].reduce(0) { $0 << 8 | UInt64($1) }
        } else {
            self.bodyLeft -= UInt64(frame.count - 8)
        }
        guard self.bodyLeft == 0 else { return }
        self.isInDelivery = false
        let whole = self.delivery
        defer { count += 1 }
        switch actions[count] {
        case .drop: return
        case .duplicate: out += whole + whole
        case .swapWithNext:
            self.held = whole
            return
        case .corrupt:
            var changed = whole
            changed[changed.count - 2] ^= 0xFF
            out += changed
        case nil: out += whole
        }
        out += self.held
        self.held = []
    }
}
