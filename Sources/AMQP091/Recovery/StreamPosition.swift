// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

// StreamPosition: where in its stream the next consumer of one sequence has to begin. It counts what was given to the
// application: a handler began, or an iterator returned the delivery. Deliveries handed over and not given come again.
// Pure: no socket, clock, task or lock. Not here: asking the broker where a stream begins (AMQPConnection+StreamStart).
//
//   unknown --first delivery with x-stream-offset--> stream     unknown --first delivery without--> queue

/// Where a consumer of a stream resumes.
struct StreamPosition: Hashable, Sendable {
    private enum Kind { case unknown, stream, queue }

    private var kind: Kind
    /// Whether the queue is known to be a stream, not inferred from what its messages carry.
    let isCertain: Bool
    /// The offset after the last delivery given, or the one the stream was found to begin at.
    private(set) var next: UInt64?
    /// A delivery of the present consumer was not given, and so is none that follows it.
    private var hasSkipped = false

    /// - Parameter isStream: Whether the queue is a stream; nil if that is not known.
    init(isStream: Bool?) {
        self.isCertain = isStream == true
        self.kind =
            switch isStream {
            case true?: .stream
            case false?: .queue
            case nil: .unknown
            }
    }

    /// Whether offsets are of interest: not once the queue is known to be no stream.
    var isWatching: Bool { self.kind != .queue }

    /// Whether the queue is known to be a stream.
    var isStream: Bool { self.kind == .stream }

    /// Where the first consumer begins, as the broker says.
    mutating func begins(at offset: UInt64) { if self.next == nil { self.next = offset } }

    /// The application got a delivery; its offset, nil if it carries none.
    mutating func gave(_ offset: UInt64?) {
        guard let offset else {
            if self.kind == .unknown { self.kind = .queue }
            return
        }
        guard self.isWatching, !self.hasSkipped else { return }
        self.kind = .stream
        self.next = offset &+ 1
    }

    /// A delivery, the first of its consumer, was not given to the application.
    mutating func skipped(_ offset: UInt64?) {
        guard self.isWatching, !self.hasSkipped, let offset else { return }
        self.kind = .stream
        self.hasSkipped = true
        self.next = offset
    }

    /// Another consumer begins.
    mutating func resumed() { self.hasSkipped = false }

    /// The stream was deleted, and another one has its name: all of that one is new.
    mutating func restart() {
        guard self.isStream else { return }
        self.next = 0
        self.hasSkipped = false
    }

    /// The broker refused the offset: the queue is no stream, whatever its messages carry.
    mutating func isNoStream() {
        self.kind = .queue
        self.next = nil
    }
}
