// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency

// The TLS handshake on a connection. Reading and writing afterwards are those of a plain connection: TLSTransport takes the place
// of the socket.

extension ConnectionCore {
    /// Puts TLS onto the connection; nobody else reads or writes meanwhile.
    func startTLS(_ engine: sending TLSEngine, until deadline: MonotonicTime) async throws(NetworkError) {
        let limit = WriteLimit(timeout: nil, end: deadline)
        if try !self.beginsWriting() { try await self.waitForTurn(limit) }
        let side = self.handedWriteSide()
        guard !self.isSecured else {
            side.end(.open)
            throw .tls("The connection has TLS already.", leavesConnectionUsable: true)
        }
        let tls = side.makeTLS(engine)
        do throws(NetworkError) {
            while try await !self.advance(tls, side, until: deadline) {}
            guard side.secure(tls) else { throw .busy }
        } catch {
            let failure = self.handshakeFailed(error)
            self.flow.withLock { $0.fail(failure) }
            // The alert may still be in the output.
            _ = tls.sendRest()
            side.finishWriting()
            side.end(.cut)
            throw failure
        }
        side.end(.open)
    }

    /// One step of the handshake; true when it is done.
    private func advance(
        _ tls: TLSTransport,
        _ side: borrowing WriteSide,
        until deadline: MonotonicTime
    ) async throws(NetworkError) -> Bool {
        switch side.advance(tls) {
        case .count: return true
        case .failed(let error): throw tls.failure ?? NetworkError(connection: self.name, error)
        case .endOfStream: throw .closed
        case .wouldBlock: break
        }
        if tls.hasOutput {
            try await self.waitToWrite(side, until: deadline)
            return false
        }
        if let reading = try self.takeReadSide() {
            let (result, effect) = reading.receive(for: tls)
            if try self.readEnded(reading, result, effect) != nil { return false }
        }
        try await self.waitToRead(until: deadline, .handshake)
        return false
    }

    private func handshakeFailed(_ error: NetworkError) -> NetworkError {
        let peer = self.name.isEmpty ? "The peer" : self.name
        if error.kind == .timedOut, error.underlying == nil {
            return NetworkError(kind: .timedOut, text: "\(peer) did not finish the TLS handshake in time.")
        }
        // Whatever the wait was: the handshake has begun, and nothing else can be said on this connection.
        return NetworkError(kind: error.kind, underlying: error.underlying, text: error.text)
    }
}
