// SPDX-License-Identifier: Apache-2.0
#if TLS
    import Synchronization

    // TLSLink: the TLS of one StreamConnection. The engine is behind a lock, because one task may read while others write
    // and OpenSSL wants one thread at a time; system calls that move its octets are made inside, so that they stay in
    // order. They do not block. It has no socket: who sends its output holds a side of the connection.

    final class TLSLink: Sendable {
        /// Plaintext that is encrypted before the result is sent, at most: eight records in one system call.
        static let sliceSize = 128 << 10

        let engine: Locked<TLSEngine>
        private let agreed = Locked<TLSSession?>(nil)
        private let hasSaidGoodbye = Atomic<Bool>(false)

        init(_ engine: sending TLSEngine) { self.engine = Locked(engine) }

        var session: TLSSession? { self.agreed.withLock { $0 } }

        func noteSession() {
            let session = self.engine.withLock { $0.session }
            self.agreed.withLock { $0 = session }
        }

        var hasOutput: Bool { self.engine.withLock { $0.outputCount > 0 } }

        /// Puts close_notify into the output, once.
        func sayGoodbye() {
            if self.hasSaidGoodbye.exchange(true, ordering: .relaxed) { return }
            self.engine.withLock { $0.finish() }
        }

        /// Sends the output through `write`, as much as the kernel takes: how much that was, and `.count` when it was all.
        func sendOutput(_ write: (UnsafeRawBufferPointer) -> IOResult) -> (sent: Int, result: IOResult) {
            self.engine.withLock { engine in
                var total = 0
                while engine.outputCount > 0 {
                    var result = IOResult.count(0)
                    engine.withOutput { octets in
                        result = write(octets)
                        guard case .count(let sent) = result else { return 0 }
                        total += sent
                        return sent
                    }
                    guard case .count = result else { return (total, result) }
                }
                return (total, .count(0))
            }
        }
    }

    /// Where a connection keeps its link: set once, read from any thread.
    struct TLSLinkReference: ~Copyable {
        private let reference = AtomicLazyReference<TLSLink>()

        var link: TLSLink? { self.reference.load() }

        /// False when there is one already.
        func set(_ link: TLSLink) -> Bool { self.reference.storeIfNil(link) === link }
    }
#endif
