// SPDX-License-Identifier: Apache-2.0
import CEpoll

// PeerCredentials: who is on the other end of a Unix socket, as unix(7) tells.

/// The process that connected, or listened, at the other end of a Unix socket.
public struct PeerCredentials: Hashable, Sendable {
    /// The number of the process then.
    public let process: Int32
    /// Its effective user.
    public let user: UInt32
    /// Its effective group.
    public let group: UInt32
}

extension StreamSocket {
    var peerCredentials: PeerCredentials? {
        var process: CInt = 0
        var user: CUnsignedInt = 0
        var group: CUnsignedInt = 0
        guard cepoll_peer_credentials(self.descriptor, &process, &user, &group) == 0, process > 0 else { return nil }
        return PeerCredentials(process: process, user: user, group: group)
    }
}
