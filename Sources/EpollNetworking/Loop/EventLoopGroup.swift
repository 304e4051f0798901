// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import Glibc
import Synchronization

// EventLoopGroup: a fixed set of loops, handed out in turn. A connection stays on its loop for life.

/// Several event loops over which connections are spread.
public final class EventLoopGroup: Sendable {
    /// The group used unless another is named: half the cores, at least one and at most four loops.
    ///
    /// It is started at its first use and lives as long as the process. The environment variable `EPOLL_LOOPS`, 1...64,
    /// sets another count. Without descriptors or threads for it the calls that need a loop fail with the reason, and the
    /// next use tries again.
    public static var shared: EventLoopGroup {
        if let group = Simulation.running?.group { return group }
        return Self.started.withLock { started in
            if let started { return started }
            let cores = Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))
            let setting = getenv("EPOLL_LOOPS").map { String(cString: $0) }
            do throws(SystemError) {
                let group = try EventLoopGroup(count: Self.sharedCount(setting: setting, cores: cores))
                started = group
                return group
            } catch {
                return EventLoopGroup(failed: error)
            }
        }
    }

    private static let started = Locked<EventLoopGroup?>(nil)

    /// How many loops the shared group gets; a setting that is no count is passed over.
    static func sharedCount(setting: String?, cores: Int) -> Int {
        if let count = setting.flatMap({ Int($0) }), 1...64 ~= count { return count }
        return min(4, max(1, cores / 2))
    }

    private let loops: [EventLoop]
    private let turn = Atomic<UInt>(0)

    /// Starts loops.
    ///
    /// - Parameter count: How many, at least 1.
    /// - Throws: ``SystemError`` when descriptors or threads run out.
    public init(count: Int) throws(SystemError) {
        var loops: [EventLoop] = []
        for index in 0..<max(1, count) { loops.append(try EventLoop(name: "epoll-\(index)")) }
        self.loops = loops
    }

    /// A group of loops that run already.
    init(_ loops: [EventLoop]) { self.loops = loops }

    /// A group of one loop that could not start.
    init(failed error: SystemError) { self.loops = [EventLoop(name: "epoll-0", failed: error)] }

    var first: EventLoop { self.loops[0] }

    /// How many loops there are.
    public var count: Int { self.loops.count }

    /// A loop, each in its turn.
    public func next() -> EventLoop {
        let turn = self.turn.wrappingAdd(1, ordering: .relaxed).oldValue
        return self.loops[Int(turn % UInt(self.loops.count))]
    }

    /// What each loop has done since it started.
    public var statistics: [LoopStatistics] { self.loops.map(\.statistics) }

    /// Ends every loop of the group soon; ``stopped()`` waits until they have.
    public func shutdown() {
        for loop in self.loops { loop.shutdown() }
    }

    /// Waits until every loop's thread has left its last turn.
    ///
    /// - Returns: False when the task was cancelled first.
    @discardableResult
    public func stopped() async -> Bool {
        for loop in self.loops where await !loop.stopped() { return false }
        return true
    }
}
