// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import EpollNetworking
import Glibc

// RawPeer: one end of a socket pair, used by one thread with calls that wait: says octets, hears frames, to the end.
// Completion: what a thread waits for that gave work to tasks. Both give up after a time nothing needs, with a trap.

/// Seconds after which something that is to end has not.
private let patience = 30

/// The end of a socket pair that knows no loop.
final class RawPeer {
    private let socket: StreamSocket
    private var inbound: [UInt8] = []
    private var hasEnded = false

    init(_ socket: StreamSocket) { self.socket = socket }

    /// Waits for the socket; traps when it takes too long.
    private func wait(for events: Int32) {
        var descriptor = pollfd(fd: self.socket.descriptor, events: Int16(events), revents: 0)
        let count = poll(&descriptor, 1, CInt(patience * 1000))
        promise(count != 0, "the other end does nothing")
    }

    /// Writes all, and reads meanwhile, so that neither end waits for the other.
    func send(_ octets: [UInt8]) {
        var rest = octets[...]
        while !rest.isEmpty, !self.hasEnded {
            switch rest.withUnsafeBytes({ self.socket.write($0) }) {
            case .count(let count): rest = rest.dropFirst(count)
            case .wouldBlock:
                self.wait(for: POLLIN | POLLOUT)
                self.read()
            default: return
            }
        }
    }

    func send(_ method: Method, on channel: UInt16 = 0) {
        var buffer = WireBuffer()
        guard (try? method.encodeFrame(channel: ChannelNumber(channel), into: &buffer)) != nil else { return }
        self.send(buffer.withUnsafeBytes { Array($0) })
    }

    private func read() {
        var room = [UInt8](repeating: 0, count: 16 << 10)
        while !self.hasEnded {
            switch room.withUnsafeMutableBytes({ self.socket.read(into: $0) }) {
            case .count(let count): self.inbound += room[..<count]
            case .wouldBlock: return
            default: self.hasEnded = true
            }
        }
    }

    /// The next method; nil at the end.
    func method() -> Method? {
        while true {
            if self.inbound.starts(with: Frame.protocolHeader) { self.inbound.removeFirst(8) }
            let decoder = FrameDecoder(maximumFrameSize: 1 << 20)
            if let frame = try? decoder.next(in: self.inbound.span.bytes, from: 0) {
                let payload = Array(self.inbound[frame.payload])
                self.inbound.removeFirst(frame.end)
                guard frame.type == .method else { continue }
                return try? Method.decode(payload.span.bytes)
            }
            guard !self.hasEnded else { return nil }
            self.wait(for: POLLIN)
            self.read()
        }
    }

    /// Says that no more comes, and reads to the end.
    func finish() {
        self.socket.finishWriting()
        while !self.hasEnded {
            self.wait(for: POLLIN)
            self.read()
            self.inbound.removeAll(keepingCapacity: true)
        }
        self.socket.close()
    }
}

/// The event a thread waits for.
final class Completion: @unchecked Sendable {
    private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

    init() { sem_init(self.semaphore, 0, 0) }

    deinit {
        sem_destroy(self.semaphore)
        self.semaphore.deallocate()
    }

    func complete() { sem_post(self.semaphore) }

    func wait(_ what: String) {
        var deadline = timespec()
        clock_gettime(CLOCK_REALTIME, &deadline)
        deadline.tv_sec += patience
        while sem_timedwait(self.semaphore, &deadline) != 0 {
            promise(errno == EINTR, "\(what) did not end")
        }
    }
}
