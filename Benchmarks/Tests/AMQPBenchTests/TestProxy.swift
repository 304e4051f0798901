// SPDX-License-Identifier: Apache-2.0
import Foundation
import Glibc
import Synchronization

@testable import AMQPBench

// TestProxy: stands between the tool and a broker and does to the stream what the report must then say: holds everything
// back for a time, delays it, and drops, duplicates, swaps or corrupts deliveries and drops publishes. It times every
// publish, confirm and delivery itself: see ProxyLog. It understands the frames of one channel per connection, no more.
// Blocking threads: two for each direction of a connection, so that a delay does not slow the stream down.

/// A proxy on loopback.
final class TestProxy: Sendable {
    /// The fault applied to a message.
    enum Action: Sendable { case drop, duplicate, swapWithNext, corrupt }

    private struct State {
        var isStalled = false
        var isClosed = false
        var delay: UInt64 = 0
        /// By number of the delivery, from 0, over all connections.
        var deliveryActions: [Int: Action] = [:]
        /// By number of the publish, likewise.
        var publishActions: [Int: Action] = [:]
        var deliveries = 0
        var publishes = 0
        var descriptors: [Int32] = []
        var log = ProxyLog()
    }

    private let state = Mutex(State())
    private let listener: Int32
    private let target: UInt16
    let port: UInt16

    /// A proxy to a port of loopback.
    init(
        to target: UInt16,
        delay: Duration = .zero,
        actions: [Int: Action] = [:],
        publishActions: [Int: Action] = [:]
    ) throws {
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
            $0.deliveryActions = actions
            $0.publishActions = publishActions
            $0.descriptors = [listener]
        }
        Thread.detachNewThread { self.accept() }
    }

    var uri: String { "amqp://guest:guest@127.0.0.1:\(self.port)" }

    /// Holds back everything in both directions, or lets it go on.
    func stall(_ isStalled: Bool) { self.state.withLock { $0.isStalled = isStalled } }

    /// Delays everything by so much from now on, each way.
    func delay(_ delay: Duration) { self.state.withLock { $0.delay = UInt64(delay / .nanoseconds(1)) } }

    /// Publishes that have come so far.
    var publishes: Int { self.state.withLock { $0.publishes } }

    /// Messages forwarded so far.
    var log: ProxyLog { self.state.withLock { $0.log } }

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
        var number = 0
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
            self.pump(from: client, to: broker, number, isFromBroker: false)
            self.pump(from: broker, to: client, number, isFromBroker: true)
            number += 1
        }
    }

    private func pump(from source: Int32, to sink: Int32, _ connection: Int, isFromBroker: Bool) {
        let pipe = Pipe()
        Thread.detachNewThread {
            var buffer = [UInt8](repeating: 0, count: 1 << 16)
            var editor = FrameEditor(isFromBroker: isFromBroker)
            while true {
                let count = read(source, &buffer, buffer.count)
                guard count > 0 else { break }
                let now = MonotonicClock.now
                let item = self.state.withLock { state in
                    let edited = buffer.withUnsafeBytes { octets in
                        let octets = UnsafeRawBufferPointer(rebasing: octets[0..<count])
                        return isFromBroker
                            ? editor.edit(octets, &state.deliveries, state.deliveryActions)
                            : editor.edit(octets, &state.publishes, state.publishActions)
                    }
                    // A publish counts from when it comes, what the broker says from when it goes on.
                    if !isFromBroker { state.log.notePublishes(edited.events, connection, at: now) }
                    return Pipe.Item(octets: edited.octets, events: edited.events, due: now + state.delay)
                }
                pipe.put(item)
            }
            pipe.put(nil)
        }
        Thread.detachNewThread {
            while let item = pipe.take() {
                while MonotonicClock.now < item.due || self.state.withLock({ $0.isStalled && !$0.isClosed }) {
                    usleep(200)
                }
                if isFromBroker {
                    self.state.withLock { $0.log.noteAnswers(item.events, connection, at: MonotonicClock.now) }
                }
                var done = 0
                while done < item.octets.count {
                    let count = item.octets.withUnsafeBytes {
                        send(sink, $0.baseAddress! + done, $0.count - done, 0x4000)
                    }
                    guard count > 0 else { break }
                    done += count
                }
            }
            _ = shutdown(sink, Int32(SHUT_WR))
        }
    }

    /// Octets on their way.
    private final class Pipe: @unchecked Sendable {
        struct Item {
            var octets: [UInt8]
            var events: [FrameEditor.Event]
            var due: UInt64
        }

        private let condition = NSCondition()
        private var items: [Item?] = []
        private var start = 0

        func put(_ item: Item?) {
            self.condition.withLock { self.items.append(item) }
            self.condition.signal()
        }

        func take() -> Item? {
            self.condition.lock()
            defer { self.condition.unlock() }
            while self.start == self.items.count { self.condition.wait() }
            let item = self.items[self.start]
            self.items[self.start] = nil
            self.start += 1
            if self.start == self.items.count { (self.items, self.start) = ([], 0) }
            return item
        }
    }
}

/// Cuts one direction of a connection into frames, tells what they are, and does to messages what it is told.
struct FrameEditor {
    enum Event: Hashable, Sendable {
        /// A publish or a delivery with the header of its body.
        case message(sequence: UInt64, due: UInt64)
        /// The broker's word on publishes.
        case confirm(tag: UInt64, isMultiple: Bool)
    }

    /// The method whose messages are counted: basic.deliver or basic.publish.
    private let method: UInt16
    private let isFromBroker: Bool
    private var left: [UInt8] = []
    /// The frames of a message that is not complete.
    private var message: [UInt8] = []
    private var header: Event?
    private var bodyLeft: UInt64 = 0
    private var isInMessage = false
    /// One that changes places with the next.
    private var held: (octets: [UInt8], event: Event?)?

    init(isFromBroker: Bool) {
        self.isFromBroker = isFromBroker
        self.method = isFromBroker ? 60 : 40
    }

    /// What to pass on of some octets.
    mutating func edit(
        _ octets: UnsafeRawBufferPointer,
        _ count: inout Int,
        _ actions: [Int: TestProxy.Action]
    ) -> (octets: [UInt8], events: [Event]) {
        self.left.append(contentsOf: octets)
        var out: [UInt8] = []
        var events: [Event] = []
        out.reserveCapacity(self.left.count)
        let all = self.left
        let place = all.withUnsafeBytes { all -> Int in
            var place = 0
            while all.count - place >= 8 {
                // The protocol header of the client has no frame.
                if all[place] == UInt8(ascii: "A") {
                    out.append(contentsOf: all[place..<place + 8])
                    place += 8
                    continue
                }
                let size = Int(UInt32(bigEndian: all.loadUnaligned(fromByteOffset: place + 3, as: UInt32.self)))
                guard all.count - place >= size + 8 else { break }
                let frame = UnsafeRawBufferPointer(rebasing: all[place..<place + size + 8])
                self.take(frame, &out, &events, &count, actions)
                place += size + 8
            }
            return place
        }
        self.left.removeFirst(place)
        return (out, events)
    }

    private mutating func take(
        _ frame: UnsafeRawBufferPointer,
        _ out: inout [UInt8],
        _ events: inout [Event],
        _ count: inout Int,
        _ actions: [Int: TestProxy.Action]
    ) {
        func number<Value: FixedWidthInteger>(_ place: Int, _: Value.Type) -> Value {
            Value(bigEndian: frame.loadUnaligned(fromByteOffset: place, as: Value.self))
        }
        if frame[0] == 1, frame.count >= 12, number(7, UInt16.self) == 60 {
            let method = number(9, UInt16.self)
            if method == self.method {
                self.isInMessage = true
                self.message.removeAll(keepingCapacity: true)
                self.message.append(contentsOf: frame)
                self.header = nil
                return
            }
            if self.isFromBroker, method == 80 || method == 120 {
                events.append(.confirm(tag: number(11, UInt64.self), isMultiple: frame[19] & 1 == 1))
            }
        }
        guard self.isInMessage, frame[0] == 2 || frame[0] == 3 else {
            out.append(contentsOf: frame)
            return
        }
        self.message.append(contentsOf: frame)
        if frame[0] == 2 {
            self.bodyLeft = number(11, UInt64.self)
        } else {
            if self.header == nil, frame.count >= 8 + 32 {
                self.header = .message(sequence: number(7, UInt64.self), due: number(23, UInt64.self))
            }
            self.bodyLeft -= UInt64(frame.count - 8)
        }
        guard self.bodyLeft == 0 else { return }
        self.isInMessage = false
        let event = self.header
        defer { count += 1 }
        switch actions[count] {
        case .drop: return
        case .duplicate:
            out += self.message + self.message
            if let event { events.append(event) }
        case .swapWithNext:
            self.held = (self.message, event)
            return
        case .corrupt:
            self.message[self.message.count - 2] ^= 0xFF
            out += self.message
            if let event { events.append(event) }
        case nil:
            out += self.message
            if let event { events.append(event) }
        }
        if let held {
            out += held.octets
            if let event = held.event { events.append(event) }
            self.held = nil
        }
    }
}

/// When everything went through a proxy, nanoseconds of the monotonic clock: the truth a report is held to.
struct ProxyLog: Sendable {
    struct Publish: Sendable {
        var sequence: UInt64
        /// When the tool says that it was due.
        var due: UInt64
        var seen: UInt64
        var confirmed: UInt64?
        var delivered: UInt64?
    }

    private struct Connection: Sendable {
        var publishes: [Publish] = []
        /// Publishes below are confirmed.
        var floor = 0

        mutating func confirm(_ tag: Int, _ isMultiple: Bool, _ now: UInt64) {
            guard tag >= 1, tag <= self.publishes.count else { return }
            for index in (isMultiple ? self.floor : tag - 1)..<tag where self.publishes[index].confirmed == nil {
                self.publishes[index].confirmed = now
            }
            if isMultiple { self.floor = max(self.floor, tag) }
        }
    }

    private var connections: [Int: Connection] = [:]
    /// By sequence number.
    private var delivered: [UInt64: UInt64] = [:]

    mutating func notePublishes(_ events: [FrameEditor.Event], _ connection: Int, at now: UInt64) {
        for case .message(let sequence, let due) in events {
            self.connections[connection, default: Connection()].publishes
                .append(Publish(sequence: sequence, due: due, seen: now))
        }
    }

    /// Notes confirms and deliveries.
    mutating func noteAnswers(_ events: [FrameEditor.Event], _ connection: Int, at now: UInt64) {
        for event in events {
            switch event {
            case .confirm(let tag, let isMultiple):
                self.connections[connection]?.confirm(Int(truncatingIfNeeded: tag), isMultiple, now)
            case .message(let sequence, _):
                if self.delivered[sequence] == nil { self.delivered[sequence] = now }
            }
        }
    }

    /// Every publish of the one producer, with its confirm and its first delivery.
    var publishes: [Publish] {
        var all = self.connections.values.max { $0.publishes.count < $1.publishes.count }?.publishes ?? []
        for index in all.indices { all[index].delivered = self.delivered[all[index].sequence] }
        return all
    }
}
