// SPDX-License-Identifier: Apache-2.0
#if TLS

    // Reading and writing through TLS: the waiting, the turns and the deadlines are those of a plain connection; only
    // what a system call moves goes through the engine.

    extension ConnectionCore {
        /// One attempt to read plaintext; nil when it must wait.
        func receive(into room: UnsafeMutableRawBufferPointer, through link: TLSLink) throws(NetworkError) -> Int? {
            do throws(NetworkError) {
                while true {
                    let read = try link.engine.withLock { (engine) throws(NetworkError) in try engine.read(into: room) }
                    switch read {
                    case .count(let count): return count
                    case .closed: return 0
                    case .wantsInput: guard try self.receiveInput(link) else { return nil }
                    }
                }
            } catch {
                if error.kind != .busy { self.flow.withLock { $0.fail(error) } }
                throw error
            }
        }

        /// Reads octets of the peer into the engine; false when there are none.
        private func receiveInput(_ link: TLSLink) throws(NetworkError) -> Bool {
            guard try self.startRead() else { return false }
            let result = link.engine.withLock { engine -> Result<Int?, NetworkError> in
                var result = Result<Int?, NetworkError>.success(nil)
                engine.withInputRoom { room in
                    result = Result { () throws(NetworkError) in try self.performRead(into: room) }
                    if case .success(let count?) = result { return count }
                    return 0
                }
                if case .success(0) = result { engine.inputEnded() }
                return result
            }
            return try result.get() != nil
        }

        /// One attempt to read a chunk of plaintext.
        func takeChunk(through link: TLSLink) throws(NetworkError) -> Arrival {
            let storage = self.reusable(self.flow.withLock { $0.spare.take() })
            let count: Int?
            do throws(NetworkError) {
                count = try self.receive(into: storage.room, through: link)
            } catch {
                self.sendAlert(link)
                throw error
            }
            guard let count, count > 0 else {
                self.loop.chunks.giveBack(storage)
                return count == 0 ? .end : .nothing
            }
            self.flow.withLock { $0.spare = storage }
            return .octets(ByteChunk(storage, count: count))
        }

        /// Sends what the engine has for the peer; the caller has the writing side.
        func flush(_ link: TLSLink, until deadline: MonotonicTime) async throws(NetworkError) {
            while true {
                switch link.sendOutput(self.socket) {
                case .count: return
                case .wouldBlock: try await self.waitToWrite(until: deadline)
                case .endOfStream: throw .closed
                case .failed(let error): throw NetworkError(connection: self.name, error)
                }
            }
        }

        /// Answers that reading made necessary, such as new keys: what the kernel takes of them at once.
        ///
        /// A reader must not wait for room to write: both ends could. The rest goes with the next write.
        @inline(never)
        func flushAnswers() {
            guard let link = self.tls, link.hasOutput, self.tryAcquireWriter() else { return }
            _ = link.sendOutput(self.socket)
            self.releaseWriter()
        }

        private func tryAcquireWriter() -> Bool {
            (try? self.flow.withLock { (flow) throws(NetworkError) in try flow.beginWrite() }) == true
        }

        /// Tells the peer why, if the kernel takes it at once.
        private func sendAlert(_ link: TLSLink) {
            if link.hasOutput { _ = link.sendOutput(self.socket) }
        }

        /// Encrypts and sends octets; the caller has the writing side.
        func send(_ octets: RawSpan, through link: TLSLink, until deadline: MonotonicTime) async throws(NetworkError) {
            var offset = 0
            while offset < octets.byteCount {
                let end = min(octets.byteCount, offset + TLSLink.sliceSize)
                try link.engine.withLock { (engine) throws(NetworkError) in
                    let result = octets.withUnsafeBytes { bytes in
                        Result { () throws(NetworkError) in
                            try engine.write(UnsafeRawBufferPointer(rebasing: bytes[offset..<end]))
                        }
                    }
                    try result.get()
                }
                offset = end
                do throws(NetworkError) {
                    try await self.flush(link, until: deadline)
                } catch {
                    throw error.kind == .cancelled || error.kind == .timedOut ? error.afterPart : error
                }
            }
        }

        /// Puts TLS onto the connection; nobody else reads or writes meanwhile.
        func startTLS(_ engine: sending TLSEngine, until deadline: MonotonicTime) async throws(NetworkError) {
            let link = TLSLink(engine)
            try await self.acquireWriter(until: deadline)
            do throws(NetworkError) {
                while true {
                    let step = link.engine.withLock { engine in
                        Result { () throws(NetworkError) in try engine.handshake() }
                    }
                    // Also after a failure: it tells the peer why.
                    try await self.flush(link, until: deadline)
                    if try step.get() { break }
                    if try self.receiveInput(link) { continue }
                    try await self.waitToRead(until: deadline, "The TLS handshake")
                }
            } catch {
                self.releaseWriter(isFinal: true)
                let late = NetworkError(
                    kind: .timedOut,
                    text: "\(self.name.isEmpty ? "The peer" : self.name) did not finish the TLS handshake in time."
                )
                let failure = error.kind == .timedOut ? late : error
                self.flow.withLock { $0.fail(failure) }
                throw failure
            }
            link.noteSession()
            self.tls = link
            self.releaseWriter()
        }

        /// The word that nothing more follows, if the kernel takes it at once and nobody is writing.
        func sayGoodbye() {
            guard let link = self.tls, self.tryAcquireWriter() else { return }
            link.engine.withLock { $0.finish() }
            _ = link.sendOutput(self.socket)
            self.releaseWriter()
        }
    }
#endif
