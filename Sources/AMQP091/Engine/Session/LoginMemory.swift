// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency

// LoginMemory: whether a client has ever logged in, which its two connections share. A refusal of the first login ends the
// client; a later one may be a backend that is away (Disposition).

final class LoginMemory: Sendable {
    private let state = ObservedValue(false)

    var hasSucceeded: Bool { self.state.withLock { $0 } }

    func succeed() { self.state.withLock { $0 = true } }
}
