// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import DequeModule
import EpollConcurrency

// BodyPieces: one body on its way from the loop thread to the task that reads it while it arrives. A piece is the payload
// of one body frame where it was read. What is not yet taken counts towards the consumer's buffer, so that a reader that
// is behind stops the socket as it does with whole deliveries.

/// A body that comes in pieces.
final class BodyPieces: Sendable {
    private enum Ending {
        case whole
        case failed(AMQPError)
        /// The reader has gone on to the next delivery.
        case leftBehind
    }

    private struct State: Sendable {
        var ready = Deque<AMQPDeliveryBody>()
        var ending: Ending?
    }

    /// Octets of the whole body, as its header says.
    let count: Int
    /// Weak: the inbox holds the delivery until it is read, and that this.
    private weak let inbox: ConsumerInbox?
    private let state = ObservedValue(State())

    init(count: Int, for inbox: ConsumerInbox) {
        self.count = count
        self.inbox = inbox
    }

    // MARK: loop thread

    /// A body frame came; answers true when the consumer is so far behind that reading should stop.
    func append(_ piece: AMQPDeliveryBody) -> Bool {
        // Counted before anybody can take it, or what is taken would be counted off first.
        guard let inbox = self.inbox else { return false }
        let isFull = inbox.hold(Self.cost(of: piece))
        let isWanted = self.state.change { state in
            guard state.ending == nil else { return false }
            state.ready.append(piece)
            return true
        }
        if !isWanted { inbox.release(Self.cost(of: piece)) }
        return isWanted && isFull
    }

    /// The last octet came.
    func complete() { self.end(.whole) }

    /// The rest will not come.
    func fail(_ error: AMQPError) { self.end(.failed(error)) }

    private func end(_ ending: Ending) {
        self.state.change { if $0.ending == nil { $0.ending = ending } }
    }

    // MARK: the reader

    /// The next piece; nil behind the last.
    nonisolated(nonsending) func next() async throws(AMQPError) -> AMQPDeliveryBody? {
        let found = try await self.state.wait { state -> Result<AMQPDeliveryBody?, AMQPError>? in
            if let piece = state.ready.popFirst() { return .success(piece) }
            switch state.ending {
            case nil: return nil
            case .whole: return .success(nil)
            case .failed(let error): return .failure(error)
            case .leftBehind:
                return .failure(
                    AMQPError(
                        .invalidArgument,
                        "the body is gone: the next delivery was asked for before it was read to its end",
                        isSafeToRetry: true
                    )
                )
            }
        }
        guard let piece = try found.get() else { return nil }
        self.inbox?.release(Self.cost(of: piece))
        return piece
    }

    /// Nobody will read the rest.
    func leaveBehind() {
        let left = self.drop()
        if !left.isEmpty { self.inbox?.release(left.reduce(0) { $0 + Self.cost(of: $1) }) }
    }

    /// As `leaveBehind`, when the inbox has been abandoned and has forgotten what it held: called under its lock.
    @discardableResult
    func drop() -> Deque<AMQPDeliveryBody> {
        self.state.change { state in
            let left = state.ready
            state.ready = []
            switch state.ending {
            case .failed, .leftBehind: break
            // What was read to its end stays so.
            case .whole where left.isEmpty: break
            case .whole, nil: state.ending = .leftBehind
            }
            return left
        }
    }

    /// What a piece keeps in memory, roughly.
    private static func cost(of piece: AMQPDeliveryBody) -> Int { piece.count + 64 }
}
