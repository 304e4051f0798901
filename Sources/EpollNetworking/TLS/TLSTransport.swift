// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import SystemPackage

// TLSTransport: TLS on top of another transport. Same results as a socket, with two differences: the handshake is done
// inside `read` and `flush`, and `write` takes plaintext when it could encrypt it; `flush` reports whether the transport
// below has taken everything.
// One thread may read while another writes: the engine is behind a lock, because OpenSSL allows one thread at a time. System
// calls that move its octets are made inside the lock, so that octets stay in order; they do not block. An answer that a read
// makes necessary (new keys, an alert) is sent at once as far as the transport below takes it, by the reader: it holds a side,
// so the descriptor is open, and the lock keeps the order. The rest is sent by the next write or by the end.

package final class TLSTransport: ByteTransport, @unchecked Sendable {
    /// Plaintext that is encrypted before the result is sent, at most: eight records in one system call.
    private static let sliceSize = 128 << 10

    private struct State: ~Copyable {
        let engine: TLSEngine
        /// The handshake is done: plaintext may be written.
        var isEstablished = false
        var hasSaidGoodbye = false
        /// The kernel reports a failure once.
        var inputFailure: SystemError?
        /// The failure behind `.failed`, in words.
        var failure: NetworkError?
        var sentCount = 0

        init(_ engine: consuming TLSEngine) { self.engine = engine }
    }

    private let lower: any ByteTransport
    private let state: Locked<State>

    package init(_ lower: any ByteTransport, _ engine: TLSEngine) {
        self.lower = lower
        self.state = Locked(State(engine))
    }

    package var isSecured: Bool { true }
    package var isEstablished: Bool { self.state.withLock { $0.isEstablished } }
    package var failure: NetworkError? { self.state.withLock { $0.failure } }
    package var sentCount: Int { self.state.withLock { $0.sentCount } }

    /// Something is to be sent: by the handshake, or as an answer to what was read.
    package var hasOutput: Bool { self.state.withLock { $0.engine.outputCount > 0 } }

    package var session: TLSSession? { self.state.withLock { $0.isEstablished ? $0.engine.session : nil } }

    package var socket: StreamSocket? { self.lower.socket }
    package var undelivered: Int { self.lower.undelivered }
    package func finishWriting() { self.lower.finishWriting() }
    package func shutdownBoth() { self.lower.shutdownBoth() }
    package func reset() { self.lower.reset() }
    package func close() { self.lower.close() }

    package func watch(_ handler: any SocketHandler, on loop: EventLoop) throws(SystemError) {
        try self.lower.watch(handler, on: loop)
    }

    package func unwatch() { self.lower.unwatch() }

    package func setReportsReadable(_ reports: Bool) { self.lower.setReportsReadable(reports) }

    /// Octets of the peer as they come, not decrypted.
    package func discard(into room: UnsafeMutableRawBufferPointer) -> IOResult { self.lower.discard(into: room) }
}

// MARK: - Reading

extension TLSTransport {
    /// Reads as much plaintext as there is and fits.
    ///
    /// `isCut` when an end follows what was read, which only the next read reports.
    package func read(into room: UnsafeMutableRawBufferPointer, isCut: inout Bool) -> IOResult {
        self.state.withLock { state in
            if let failure = state.inputFailure { return .failed(failure) }
            if state.failure != nil { return .failed(Self.violation) }
            let result = self.read(into: room, &isCut, &state)
            // A reader does not wait for room to write: both ends could.
            if state.engine.outputCount > 0 { _ = self.sendOutput(&state) }
            return result
        }
    }

    private func read(
        into room: UnsafeMutableRawBufferPointer,
        _ isCut: inout Bool,
        _ state: inout State
    ) -> IOResult {
        var filled = 0
        var isDrained = false
        while filled < room.count {
            let step: TLSEngine.Read
            do throws(NetworkError) {
                if state.isEstablished {
                    step = try state.engine.read(into: UnsafeMutableRawBufferPointer(rebasing: room[filled...]))
                } else {
                    state.isEstablished = try state.engine.handshake()
                    // The peer waits for this part of the handshake.
                    if !state.isEstablished { _ = self.sendOutput(&state) }
                    step = state.isEstablished ? .count(0) : .wantsInput
                }
            } catch {
                let result = Self.fail(error, &state)
                isCut = filled > 0
                return filled > 0 ? .count(filled) : result
            }
            switch step {
            case .count(let count): filled += count
            case .closed:
                isCut = filled > 0
                return filled > 0 ? .count(filled) : .endOfStream
            case .wantsInput:
                if isDrained, filled > 0 { return .count(filled) }
                if state.engine.outputCount > Self.outputLimit, self.isFlooded(&state) {
                    isCut = filled > 0
                    return filled > 0 ? .count(filled) : .failed(Self.violation)
                }
                switch self.readInput(&isDrained, &state) {
                case .count, .endOfStream: continue
                case .wouldBlock: return filled > 0 ? .count(filled) : .wouldBlock
                case .failed(let error):
                    state.inputFailure = error
                    isCut = filled > 0
                    return filled > 0 ? .count(filled) : .failed(error)
                }
            }
        }
        return .count(filled)
    }

    /// Whether the peer asks for answers (key updates) and takes none; that is a violation.
    private func isFlooded(_ state: inout State) -> Bool {
        _ = self.sendOutput(&state)
        guard state.engine.outputCount > Self.outputLimit else { return false }
        let text = "The peer asks for answers and does not read them."
        if state.failure == nil { state.failure = NetworkError(kind: .tls, text: text) }
        return true
    }

    /// Octets that wait to be sent at most, while the peer is read: two slices of a write, and answers.
    private static let outputLimit = 3 * sliceSize

    private func readInput(_ isDrained: inout Bool, _ state: inout State) -> IOResult {
        var result = IOResult.wouldBlock
        var size = 0
        var isCut = false
        state.engine.withInputRoom { room in
            size = room.count
            result = self.lower.read(into: room, isCut: &isCut)
            if case .count(let count) = result { return count }
            return 0
        }
        switch result {
        case .count(let count): isDrained = count < size && !isCut
        case .endOfStream: state.engine.inputEnded()
        case .wouldBlock, .failed: break
        }
        return result
    }

    /// Takes octets of the peer for the handshake.
    package func receive() -> (IOResult, ReadReadiness.Effect) {
        self.state.withLock { state in
            var isDrained = false
            let result = self.readInput(&isDrained, &state)
            let effect = ReadReadiness.Effect(result, room: 1, isCut: true)
            return (result, effect == .more && isDrained ? .short : effect)
        }
    }

    /// After the peer hung up: an alert that it sent before, such as for a refused certificate, becomes the failure.
    package func lookForAlert() {
        self.state.withLock { state in
            var isDrained = false
            guard state.failure == nil, case .count = self.readInput(&isDrained, &state) else { return }
            do throws(NetworkError) {
                try state.engine.takeAlert()
            } catch {
                state.failure = error
            }
        }
    }
}

// MARK: - Writing

extension TLSTransport {
    /// Encrypts octets, at most 128 KiB; takes none while something is to be sent, or before the end of the handshake.
    package func write(_ octets: UnsafeRawBufferPointer) -> IOResult {
        self.state.withLock { state in
            guard state.isEstablished, state.engine.outputCount == 0 else { return .wouldBlock }
            let slice = UnsafeRawBufferPointer(rebasing: octets.prefix(Self.sliceSize))
            do throws(NetworkError) {
                try state.engine.write(slice)
                return .count(slice.count)
            } catch {
                return Self.fail(error, &state)
            }
        }
    }

    /// Sends what is to be sent; `.count` when that is all, and plaintext may be written.
    package func flush() -> IOResult {
        self.state.withLock { state in
            if !state.isEstablished {
                if state.failure != nil { return self.sendOutput(&state) }
                do throws(NetworkError) {
                    state.isEstablished = try state.engine.handshake()
                } catch {
                    _ = self.sendOutput(&state)
                    return Self.fail(error, &state)
                }
            }
            let result = self.sendOutput(&state)
            guard case .count = result else { return result }
            return state.isEstablished ? .count(0) : .wouldBlock
        }
    }

    /// Sends the rest, without a step of the handshake.
    package func sendRest() -> IOResult { self.state.withLock { self.sendOutput(&$0) } }

    private func sendOutput(_ state: inout State) -> IOResult {
        while state.engine.outputCount > 0 {
            var result = IOResult.wouldBlock
            state.engine.withOutput { octets in
                result = self.lower.write(octets)
                if case .count(let sent) = result { return sent }
                return 0
            }
            guard case .count(let sent) = result else { return result }
            state.sentCount &+= sent
        }
        return .count(0)
    }

    /// Puts close_notify into the output, once, and sends what is taken at once.
    package func sayGoodbye() {
        self.state.withLock { state in
            guard state.isEstablished, state.failure == nil, !state.hasSaidGoodbye else { return }
            state.hasSaidGoodbye = true
            state.engine.finish()
            _ = self.sendOutput(&state)
        }
    }

    private static func fail(_ error: NetworkError, _ state: inout State) -> IOResult {
        if state.failure == nil { state.failure = error }
        return .failed(Self.violation)
    }

    private static let violation = SystemError(errno: .protocolError, call: "TLS")
}
