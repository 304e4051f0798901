// SPDX-License-Identifier: Apache-2.0
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
        self.core = ConnectionCore(socket.socket, on: loop, name: "", options: SocketOptions())
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
    func accept(until deadline: MonotonicTime) async throws(NetworkError) -> StreamSocket? {
        while true {
            do throws(NetworkError) {
                let socket = try await self.core.accept(until: deadline, self.call)
                self.state.withLock { $0.exhaustedSince = nil }
                return socket
            } catch {
                if error.kind == .closed { return nil }
                guard Self.isExhaustion(error.underlying?.errno) else { throw error }
                self.exhausted()
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

    private func exhausted() {
        let now = MonotonicTime.now
        let reserve = self.state.withLock { state -> CInt in
            let since = state.exhaustedSince ?? now
            state.exhaustedSince = since
            guard now - since >= Self.patience else { return -1 }
            defer { state.reserve = -1 }
            return state.reserve
        }
        guard reserve >= 0 else { return }
        _ = cepoll_close(reserve)
        let count = self.core.turnAway(atMost: 1024)
        let fresh = SystemCall.retrying { cepoll_open_null() }
        self.state.withLock { state in
            state.turnedAway += count
            state.reserve = fresh
        }
        // Closed meanwhile: nobody else would close it.
        if self.core.flow.withLock({ $0.ending != .open }) { self.close() }
    }
}

extension ConnectionCore {
    /// Takes a waiting peer, or waits for one.
    func accept(
        until deadline: MonotonicTime,
        _ call: Acceptor.Call
    ) async throws(NetworkError) -> StreamSocket {
        while true {
            if try self.startRead() {
                let result = Result { () throws(SystemError) in try call(self.socket) }
                // Until it says would-block there may be more.
                var isEmpty = false
                if case .success(nil) = result { isEmpty = true }
                let (isEnding, failure) = self.flow.withLock { flow in
                    flow.endRead(mayHaveMore: !isEmpty)
                    return (flow.mayCloseDescriptor, flow.readFailure)
                }
                if isEnding { self.callLoop() }
                switch result {
                case .success(let socket?): return socket
                case .success(nil): break
                case .failure(let error):
                    // A socket that was told to stop listening during the call answers EINVAL.
                    if let failure { throw failure }
                    throw NetworkError(
                        kind: .other,
                        underlying: error,
                        text: "A connection cannot be accepted.",
                        leavesConnectionUsable: true
                    )
                }
            }
            try await self.waitToRead(until: deadline, "Accepting")
        }
    }

    /// Has the kernel refuse peers from now on.
    func stopListening() {
        // Inside the lock: the descriptor must not be closed meanwhile.
        self.flow.withLock { if !$0.isDescriptorClosed { self.socket.shutdownBoth() } }
    }

    /// Takes and closes peers that wait; says how many.
    func turnAway(atMost limit: Int) -> Int {
        var count = 0
        guard (try? self.startRead()) == true else { return 0 }
        while count < limit, let socket = try? self.socket.accept() {
            socket.close()
            count += 1
        }
        let isEnding = self.flow.withLock { flow in
            flow.endRead(mayHaveMore: true)
            return flow.mayCloseDescriptor
        }
        if isEnding { self.callLoop() }
        return count
    }
}
