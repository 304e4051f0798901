// SPDX-License-Identifier: Apache-2.0
#if TLS
    import SystemPackage

    // TLSTransport: a socket with TLS on it, for an owner that does all its reading and writing on one thread and waits
    // by itself, as StreamEngine does. Same answers as a socket, with two differences: the handshake goes on inside `read`
    // and `flush`, and `write` takes plaintext when it could encrypt it; `flush` tells whether the socket has taken
    // everything.

    package final class TLSTransport: ByteTransport {
        private let own: StreamSocket
        private var registration = SocketWatch()
        private let engine: TLSEngine
        /// The handshake is done: plaintext may be written.
        package private(set) var isEstablished = false
        /// The kernel reports a failure once.
        private var inputFailure: SystemError?
        /// Why a call answered `.failed`, in words.
        package private(set) var failure: NetworkError?

        package init(_ socket: StreamSocket, _ engine: TLSEngine) {
            self.own = socket
            self.engine = engine
        }

        /// Something is to be sent: by the handshake, or as an answer to what was read.
        package var hasOutput: Bool { self.engine.outputCount > 0 }

        package var session: TLSSession? { self.isEstablished ? self.engine.session : nil }

        package var isSecured: Bool { true }
        package var socket: StreamSocket? { self.own }
        package var undelivered: Int { self.own.unsentCount }
        package func finishWriting() { self.own.finishWriting() }
        package func shutdownBoth() { self.own.shutdownBoth() }
        package func reset() { self.own.reset() }
        package func close() { self.own.close() }

        package func watch(_ handler: any SocketHandler, on loop: EventLoop) throws(SystemError) {
            try self.registration.begin(self.own, handler, on: loop)
        }

        package func unwatch() { self.registration.end() }

        package func setReportsReadable(_ reports: Bool) { self.registration.setReportsReadable(reports) }

        /// Reads as much plaintext as there is and fits.
        ///
        /// `isCut` when an end follows what was read, which only the next read tells.
        package func read(into room: UnsafeMutableRawBufferPointer, isCut: inout Bool) -> IOResult {
            var filled = 0
            var isDrained = false
            if let inputFailure { return .failed(inputFailure) }
            if self.failure != nil { return .failed(Self.violation) }
            while filled < room.count {
                let step: TLSEngine.Read
                do throws(NetworkError) {
                    if self.isEstablished {
                        step = try self.engine.read(into: UnsafeMutableRawBufferPointer(rebasing: room[filled...]))
                    } else {
                        self.isEstablished = try self.engine.handshake()
                        // What the handshake has for the peer goes out at once.
                        if !self.isEstablished { _ = self.sendOutput() }
                        step = self.isEstablished ? .count(0) : .wantsInput
                    }
                } catch {
                    // Tells the peer why, if the kernel takes it.
                    _ = self.sendOutput()
                    let result = self.fail(error)
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
                    switch self.readInput(&isDrained) {
                    case .count: continue
                    case .endOfStream: self.engine.inputEnded()
                    case .wouldBlock: return filled > 0 ? .count(filled) : .wouldBlock
                    case .failed(let error):
                        self.inputFailure = error
                        isCut = filled > 0
                        return filled > 0 ? .count(filled) : .failed(error)
                    }
                }
            }
            return .count(filled)
        }

        private func readInput(_ isDrained: inout Bool) -> IOResult {
            var result = IOResult.wouldBlock
            var size = 0
            var isCut = false
            self.engine.withInputRoom { room in
                size = room.count
                result = self.own.read(into: room, isCut: &isCut)
                if case .count(let count) = result { return count }
                return 0
            }
            if case .count(let count) = result { isDrained = count < size && !isCut }
            return result
        }

        /// Encrypts octets, at most 128 KiB; takes none while something is to be sent, or the handshake goes on.
        package func write(_ octets: UnsafeRawBufferPointer) -> IOResult {
            guard self.isEstablished, !self.hasOutput else { return .wouldBlock }
            let slice = UnsafeRawBufferPointer(rebasing: octets.prefix(TLSLink.sliceSize))
            do throws(NetworkError) {
                try self.engine.write(slice)
                return .count(slice.count)
            } catch {
                return self.fail(error)
            }
        }

        /// Sends what is to be sent; `.count` when that is all, and plaintext may be written.
        package func flush() -> IOResult {
            if !self.isEstablished {
                if self.failure != nil { return self.sendOutput() }
                do throws(NetworkError) {
                    self.isEstablished = try self.engine.handshake()
                } catch {
                    _ = self.sendOutput()
                    return self.fail(error)
                }
            }
            let result = self.sendOutput()
            guard case .count = result else { return result }
            return self.isEstablished ? .count(0) : .wouldBlock
        }

        private func sendOutput() -> IOResult {
            while self.hasOutput {
                var result = IOResult.wouldBlock
                self.engine.withOutput { octets in
                    result = self.own.write(octets)
                    if case .count(let sent) = result { return sent }
                    return 0
                }
                if case .failed = result { self.lookForReason() }
                guard case .count = result else { return result }
            }
            return .count(0)
        }

        /// The peer hung up: what it said before, such as that it refuses our certificate, may still be there to read.
        private func lookForReason() {
            var isDrained = false
            guard self.failure == nil, case .count = self.readInput(&isDrained) else { return }
            do throws(NetworkError) {
                try self.engine.takeAlert()
            } catch {
                self.failure = error
            }
        }

        /// Says that nothing more follows, if the kernel takes it at once.
        package func sayGoodbye() {
            guard self.isEstablished, self.failure == nil, !self.hasOutput else { return }
            self.engine.finish()
            _ = self.sendOutput()
        }

        private func fail(_ error: NetworkError) -> IOResult {
            if self.failure == nil { self.failure = error }
            return .failed(Self.violation)
        }

        private static let violation = SystemError(errno: .protocolError, call: "TLS")
    }
#endif
