// SPDX-License-Identifier: Apache-2.0
#if TLS

    // Reading and writing through TLS: the waiting, the turns and the deadlines are those of a plain connection; only
    // what a system call moves goes through the engine.

    extension ConnectionCore {
        var tls: TLSLink? { self.tlsLink.link }

        // MARK: reading

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
                if error.kind != .busy {
                    self.flushAnswers()
                    self.flow.withLock { $0.fail(error) }
                }
                throw error
            }
        }

        /// Reads octets of the peer into the engine; false when there are none.
        private func receiveInput(_ link: TLSLink) throws(NetworkError) -> Bool {
            guard let side = try self.takeReadSide() else { return false }
            var read = (result: IOResult.count(0), effect: ReadReadiness.Effect.more)
            link.engine.withLock { engine in
                engine.withInputRoom { room in
                    if room.isEmpty { return 0 }
                    read = side.read(into: room)
                    if case .count(let count) = read.result { return count }
                    return 0
                }
                if case .endOfStream = read.result { engine.inputEnded() }
            }
            return try self.readEnded(side, read.result, read.effect) != nil
        }

        /// One attempt to read a chunk of plaintext.
        func takeChunk(through link: TLSLink) throws(NetworkError) -> Arrival {
            let storage = self.reusable(self.flow.withLock { $0.spare.take() })
            let count = try self.receive(into: storage.room, through: link)
            guard let count, count > 0 else {
                self.loop.chunks.giveBack(storage)
                return count == 0 ? .end : .nothing
            }
            self.flow.withLock { if $0.ending == .open { $0.spare = storage } }
            return .octets(ByteChunk(storage, count: count))
        }

        // MARK: writing

        /// Sends what the engine has for the peer.
        func flush(
            _ link: TLSLink,
            _ side: borrowing WriteSide,
            _ limit: WriteLimit,
            hasBegun: Bool = false
        ) async throws(NetworkError) {
            do throws(NetworkError) {
                try await self.send(side, limit, hasBegun: hasBegun) { () throws(NetworkError) in
                    let (sent, result) = link.sendOutput { side.write($0) }
                    if case .count = result { return (sent, true) }
                    return (max(sent, try self.taken(result)), false)
                }
            } catch {
                throw self.reason(link, for: error)
            }
        }

        /// An alert of the peer before it hung up, such as a refused certificate, says more than the system's error.
        private func reason(_ link: TLSLink, for error: NetworkError) -> NetworkError {
            guard error.kind == .reset, error.underlying != nil else { return error }
            // A reader that waits finds it by itself.
            guard (try? self.receiveInput(link)) == true else { return error }
            do throws(NetworkError) {
                try link.engine.withLock { (engine) throws(NetworkError) in try engine.takeAlert() }
                return error
            } catch let alert {
                return alert
            }
        }

        /// Sends answers that reading made necessary, such as new keys or an alert: what the kernel takes of them at once.
        ///
        /// A reader must not wait for room to write: both ends could. The rest is sent by the next write.
        @inline(never)
        func flushAnswers() {
            guard let link = self.tls, link.hasOutput else { return }
            // Another has the side, and sends this with its own; or the connection is over.
            guard let side = (try? self.takeWriteSide()) ?? nil else { return }
            _ = link.sendOutput { side.write($0) }
            side.end(.open)
        }

        /// Encrypts octets; the engine keeps the result until it is sent.
        private func encrypt(_ octets: UnsafeRawBufferPointer, _ link: TLSLink) throws(NetworkError) {
            try link.engine.withLock { (engine) throws(NetworkError) in try engine.write(octets) }
        }

        /// Encrypts and sends octets.
        func send(
            _ octets: RawSpan,
            through link: TLSLink,
            _ side: borrowing WriteSide,
            _ limit: WriteLimit
        ) async throws(NetworkError) {
            var offset = 0
            while offset < octets.byteCount {
                let end = min(octets.byteCount, offset + TLSLink.sliceSize)
                let result = octets.withUnsafeBytes { bytes in
                    Result { () throws(NetworkError) in
                        try self.encrypt(UnsafeRawBufferPointer(rebasing: bytes[offset..<end]), link)
                    }
                }
                try result.get()
                offset = end
                try await self.flush(link, side, limit, hasBegun: true)
            }
        }

        /// Encrypts and sends chunks: small ones share a record.
        func send(
            _ chunks: [ByteChunk],
            through link: TLSLink,
            _ side: borrowing WriteSide,
            _ limit: WriteLimit
        ) async throws(NetworkError) {
            var cursor = ChunkCursor(chunks)
            while cursor.remaining > 0 {
                try self.encryptSlice(of: &cursor, link)
                try await self.flush(link, side, limit, hasBegun: true)
            }
        }

        /// Encrypts the next slice; copies what is smaller than a record, so that records are full.
        private func encryptSlice(of cursor: inout ChunkCursor, _ link: TLSLink) throws(NetworkError) {
            let storage = self.loop.chunks.take()
            defer { self.loop.chunks.giveBack(storage) }
            var pending = 0
            while pending < TLSLink.sliceSize, cursor.remaining > 0 {
                let filled = cursor.copy(into: storage.room)
                cursor.advance(filled)
                pending += filled
                try self.encrypt(UnsafeRawBufferPointer(rebasing: storage.room[..<filled]), link)
            }
        }

        // MARK: the handshake

        /// Puts TLS onto the connection; nobody else reads or writes meanwhile.
        func startTLS(_ engine: sending TLSEngine, until deadline: MonotonicTime) async throws(NetworkError) {
            let link = TLSLink(engine)
            let limit = WriteLimit(timeout: nil, end: deadline)
            if try !self.beginsWriting() { try await self.waitForTurn(limit) }
            let side = self.handedWriteSide()
            guard self.tls == nil else {
                side.end(.open)
                throw .tls("The connection has TLS already.", leavesConnectionUsable: true)
            }
            do throws(NetworkError) {
                while true {
                    let step = link.engine.withLock { engine in
                        Result { () throws(NetworkError) in try engine.handshake() }
                    }
                    // Also after a failure: it tells the peer why.
                    try await self.flush(link, side, limit)
                    if try step.get() { break }
                    if try self.receiveInput(link) { continue }
                    try await self.waitToRead(until: deadline, .handshake)
                }
            } catch {
                let failure = self.handshakeFailed(error)
                self.flow.withLock { $0.fail(failure) }
                side.finishWriting()
                side.end(.cut)
                throw failure
            }
            link.noteSession()
            _ = self.tlsLink.set(link)
            side.end(.open)
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
#endif
