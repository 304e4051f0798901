// SPDX-License-Identifier: Apache-2.0
import EpollNetworking

// Disturbance: what can go wrong in a simulated world, as values, so that a failing run can be repeated without some of them.

/// A fault of the network or the broker of a ``SimulatedWorld``.
public enum Disturbance: Hashable, Sendable {
    /// Cuts the links to a node: octets on the way arrive in part, and each side learns of the loss in its own time.
    case cut(node: Int)
    /// Loses everything that is sent on the links to a node from now on, in one direction or both, without telling anyone.
    case halfOpen(node: Int, toClient: Bool, toBroker: Bool)
    /// Delays everything on the links to a node.
    case stall(node: Int, Duration)
    /// Refuses new links to a node for a time, and cuts those that are there.
    case refuse(node: Int, Duration)
    /// Answers no connect to a node for a time.
    case silence(node: Int, Duration)
    /// Does not find the name of a node for a time.
    case forgetName(node: Int, Duration)
    /// Freezes the broker for a time, without heartbeats.
    case freeze(Duration)
    /// Crashes the broker and starts it again: all links are lost, transient queues and messages are gone.
    case restart
    /// Closes every connection in order (`connection.close` 320).
    case closeConnections
    /// Closes every channel (`channel.close` 406); not among those that follow from a seed, as it ends consumers.
    case closeChannels
    /// Blocks publishers for a time (`connection.blocked`).
    case alarm(Duration)
    /// Nacks the next publishes, and drops their messages.
    case nack(Int)
    /// Delays confirms for a time.
    case delayConfirms(Duration)
    /// Deletes a queue.
    case deleteQueue(String)

    /// A disturbance that follows from random numbers, for so many nodes.
    static func random(nodes: Int, queues: [String], using random: inout SeededRandom) -> Disturbance {
        let node = random.below(nodes)
        func time(_ longest: Int) -> Duration { .milliseconds(1 + random.below(longest)) }
        switch random.below(queues.isEmpty ? 13 : 14) {
        case 0, 1: return .cut(node: node)
        case 2:
            let toClient = random.chance(70)
            return .halfOpen(node: node, toClient: toClient, toBroker: !toClient || random.chance(50))
        case 3: return .stall(node: node, time(5000))
        case 4: return .refuse(node: node, time(5000))
        case 5: return .silence(node: node, time(5000))
        case 6: return .forgetName(node: node, time(5000))
        case 7: return .freeze(time(4000))
        case 8: return .restart
        case 9: return .closeConnections
        case 10: return .alarm(time(5000))
        case 11: return .nack(1 + random.below(5))
        case 12: return .delayConfirms(time(3000))
        default: return .deleteQueue(queues[random.below(queues.count)])
        }
    }
}

/// A disturbance and its time since the start of the world.
public struct TimedDisturbance: Hashable, Sendable, CustomStringConvertible {
    /// The time since the start of the world.
    public let time: Duration
    /// The disturbance.
    public let disturbance: Disturbance

    /// The time and the disturbance.
    public var description: String { "\(self.time): \(self.disturbance)" }
}
