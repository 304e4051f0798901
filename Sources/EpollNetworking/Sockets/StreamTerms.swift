// SPDX-License-Identifier: Apache-2.0

// StreamTerms: the limits that the connections of one connect or one listener share, in one object, so that an idle connection
// costs a reference.

final class StreamTerms: Sendable {
    let readTimeout: Duration?
    let writeTimeout: Duration?
    /// How long an ended connection waits for the peer; zero closes at once.
    let lingerTime: Duration
    let usesQuickAck: Bool

    init(_ options: SocketOptions, lingers: Bool = true) {
        self.readTimeout = options.readTimeout
        self.writeTimeout = options.writeTimeout
        self.lingerTime = lingers ? options.lingerTime : .zero
        self.usesQuickAck = options.quickAck
    }
}
