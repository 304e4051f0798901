// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import CEpoll
import SystemPackage

// Acceptor: one listening socket on its loop. The waiting is that of a connection's reader (ConnectionCore): a listening
// socket is readable when somebody knocks, and accept(2) takes the place of recv(2).
//
// Out of descriptors: the peers stay in the backlog while the acceptor pauses and tries again. When that lasts, it lets
// go of a descriptor it kept in reserve, and uses it to take and close those who wait: they learn it now, instead of
// never. No spin: with edges nothing but the pause says that there is more to accept.

final class Acceptor: Sendable {
    /// Pause between two attempts while descriptors are short.
    static let pause = Duration.milliseconds(100)
    /// How long the waiting are left in the backlog before they are turned away.
    static let patience = Duration.seconds(1)

    /// accept(2); tests put failures in its place.
    typealias Call = @Sendable (StreamSocket) throws(SystemError) -> StreamSocket?

    let core: ConnectionCore
    private let call: Call

    private struct State {
        /// -1 when there is none.
        var reserve: CInt = -1
        var exhaustedSince: MonotonicTime?
        var turnedAway = 0
    }
    private let state: Locked<State>

    init(
        _ socket: ListeningSocket,
        on loop: EventLoop,
        _ call: @escaping Call = { (socket) throws(SystemError) in try socket.accept() }
    ) throws(SystemError) {
        self.call = call
        let terms = StreamTerms(SocketOptions(), lingers: false)
        self.core = ConnectionCore(socket.socket, on: loop, name: "", terms: terms)
        let reserve = try SystemCall.checking("open /dev/null") { cepoll_open_null() }
        self.state = Locked(State(reserve: reserve))
        self.core.start()
    }

    deinit { self.close() }

    /// Peers that were turned away because descriptors had run out.
    var turnedAway: Int { self.state.withLock { $0.turnedAway } }

    var isExhausted: Bool { self.state.withLock { $0.exhaustedSince != nil } }

    func close() {
        self.core.end(.close)
        // The descriptor may stay until the loop's next turn; until then the kernel would go on to greet peers.
        self.core.stopListening()
        let reserve = self.state.withLock { state in
            defer { state.reserve = -1 }
            return state.reserve
        }
        if reserve >= 0 { _ = cepoll_close(reserve) }
    }

    /// The next peer; nil when closed.
    ///
    /// `onShortage` is told when descriptors have run out, and how many peers were turned away.
    func accept(
        until deadline: MonotonicTime,
        onShortage: ((NetworkError) -> Void)? = nil
    ) async throws(NetworkError) -> StreamSocket? {
        while true {
            do throws(NetworkError) {
                let socket = try await self.core.accept(until: deadline, self.call)
                self.state.withLock { $0.exhaustedSince = nil }
                return socket
            } catch {
                if error.kind == .closed { return nil }
                guard Self.isExhaustion(error.underlying?.errno) else { throw error }
                if let report = self.exhausted(error) { onShortage?(report) }
                try await self.core.loop.sleep(until: min(deadline, .now + Self.pause))
                if MonotonicTime.now >= deadline { throw error }
            }
        }
    }

    private static func isExhaustion(_ errno: Errno?) -> Bool {
        switch errno {
        case .tooManyOpenFiles, .tooManyOpenFilesInSystem, .noBufferSpace, .noMemory: true
        default: false
        }
    }

    /// Turns peers away when it lasts; what is new to report.
    private func exhausted(_ error: NetworkError) -> NetworkError? {
        let now = MonotonicTime.now
        let (reserve, isNew) = self.state.withLock { state -> (CInt, Bool) in
            let isNew = state.exhaustedSince == nil
            let since = state.exhaustedSince ?? now
            state.exhaustedSince = since
            guard now - since >= Self.patience else { return (-1, isNew) }
            defer { state.reserve = -1 }
            return (state.reserve, isNew)
        }
        guard reserve >= 0 else { return isNew ? .acceptorExhausted(error.underlying, turnedAway: 0) : nil }
        _ = cepoll_close(reserve)
        let count = self.core.turnAway(atMost: 1024)
        let fresh = SystemCall.retrying { cepoll_open_null() }
        self.state.withLock { state in
            state.turnedAway += count
            state.reserve = fresh
        }
        // Closed meanwhile: nobody else would close it.
        if self.core.flow.withLock({ $0.ending != .open }) { self.close() }
        return count > 0 || isNew ? .acceptorExhausted(error.underlying, turnedAway: count) : nil
    }
}

extension ConnectionCore {
    /// Takes a waiting peer, or waits for one.
    func accept(
        until deadline: MonotonicTime,
        _ call: Acceptor.Call
    ) async throws(NetworkError) -> StreamSocket {
        if FairShare.isUsedUp { await FairShare.yield() }
        while true {
            if let side = try self.takeReadSide() {
                let result = Result { () throws(SystemError) in try side.accept(call) }
                FairShare.charge(octets: 0)
                // Until it answers would-block there may be more.
                var isEmpty = false
                if case .success(nil) = result { isEmpty = true }
                side.end(isEmpty ? .empty : .more)
                switch result {
                case .success(let socket?): return socket
                case .success(nil): break
                case .failure(let error):
                    // A socket that was told to stop listening during the call answers EINVAL.
                    if let failure = self.flow.withLock({ $0.readFailure }) { throw failure }
                    throw NetworkError(
                        kind: .other,
                        underlying: error,
                        text: "A connection cannot be accepted.",
                        leavesConnectionUsable: true
                    )
                }
            }
            try await self.waitToRead(until: deadline, .peer)
        }
    }

    /// Takes and closes peers that wait; says how many.
    func turnAway(atMost limit: Int) -> Int {
        var count = 0
        guard let side = (try? self.takeReadSide()) ?? nil else { return 0 }
        while count < limit, let socket = try? side.accept({ (socket) throws(SystemError) in try socket.accept() }) {
            socket.close()
            count += 1
        }
        side.end(.more)
        return count
    }
}
