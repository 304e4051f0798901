// SPDX-License-Identifier: Apache-2.0
import Glibc
import Synchronization

// EventLoopGroup: a fixed set of loops, handed out in turn. A connection stays on its loop for life.

/// Several event loops over which connections are spread.
public final class EventLoopGroup: Sendable {
    /// The group used unless another is named: half the cores, at least one and at most four loops.
    ///
    /// It is started at its first use and lives as long as the process. The environment variable `EPOLL_LOOPS`, 1...64,
    /// sets another count.
    public static let shared: EventLoopGroup = {
        let cores = Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))
        let setting = getenv("EPOLL_LOOPS").map { String(cString: $0) }
        do throws(SystemError) {
            return try EventLoopGroup(count: EventLoopGroup.sharedCount(setting: setting, cores: cores))
        } catch {
            fatalError("the shared event loops cannot start: \(error)")
        }
    }()

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
    public func stopped() async {
        for loop in self.loops { await loop.stopped() }
    }
}
