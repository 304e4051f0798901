// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import CEpoll

// FairShare: how much a task may read and write without suspending. Calls that complete at once do not suspend, so that
// a task whose peer is always ready would keep its thread for ever: on a loop all its sockets, in the pool one of a few
// threads. Counted by thread, as tasks have no cheap place of their own: a call is a unit, and each 16 KiB are one more.
// A wait renews the share, so that a task that waits anyway never yields because of it.

enum FairShare {
    /// Units between two suspensions: 64 small calls, or about 1 MiB.
    private static let limit: UInt32 = 64

    @inline(__always)
    static var isUsedUp: Bool { cepoll_spent() >= Self.limit }

    @inline(__always)
    static func charge(octets: Int) { cepoll_spend(1 + UInt32(clamping: octets >> 14)) }

    @inline(__always)
    static func renew() { cepoll_renew() }

    /// Lets others have their turn: in the pool the tasks that wait, on a loop also its sockets and timers.
    @inline(never)
    static func yield() async {
        cepoll_renew()
        guard LoopCore.current != nil else { return await Task.yield() }
        // Behind the next look at the sockets: a task that only yields is back before it.
        await withSuspension { continuation in
            if let loop = LoopCore.current, !loop.hasStopped {
                loop.deferred.append(continuation)
            } else {
                continuation.resume()
            }
        }
    }
}
