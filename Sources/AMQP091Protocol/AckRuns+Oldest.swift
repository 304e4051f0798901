// SPDX-License-Identifier: Apache-2.0

extension AckRuns {
    /// The lowest tag that is not both decided and told to the broker: the oldest delivery it waits for, if it has come.
    package var oldestOpen: UInt64 { self.base }
}
