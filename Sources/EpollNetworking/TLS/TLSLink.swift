// SPDX-License-Identifier: Apache-2.0
#if TLS

    // TLSLink: the TLS of one StreamConnection. The engine is behind a lock, because one task may read while others write
    // and OpenSSL wants one thread at a time; system calls that move its octets are made inside, so that they stay in
    // order. They do not block.

    final class TLSLink: Sendable {
        /// Plaintext that is encrypted before the result is sent, at most: eight records in one system call.
        static let sliceSize = 128 << 10

        let engine: Locked<TLSEngine>
        private let agreed = Locked<TLSSession?>(nil)

        init(_ engine: sending TLSEngine) { self.engine = Locked(engine) }

        var session: TLSSession? { self.agreed.withLock { $0 } }

        func noteSession() {
            let session = self.engine.withLock { $0.session }
            self.agreed.withLock { $0 = session }
        }

        var hasOutput: Bool { self.engine.withLock { $0.outputCount > 0 } }

        /// Sends what is to be sent, as much as the kernel takes.
        func sendOutput(_ socket: StreamSocket) -> IOResult {
            self.engine.withLock { engine in
                var result = IOResult.count(0)
                while engine.outputCount > 0 {
                    engine.withOutput { octets in
                        result = socket.write(octets)
                        if case .count(let sent) = result { return sent }
                        return 0
                    }
                    guard case .count = result else { return result }
                }
                return result
            }
        }
    }
#endif
