// SPDX-License-Identifier: Apache-2.0
import Testing

// Eventually: waiting for what another thread does, turn by turn, without sleeping.

/// Waits for a condition, turn by turn.
func eventually(_ what: String, _ condition: () -> Bool) async {
    let deadline = ContinuousClock.now + .seconds(30)
    while !condition() {
        if ContinuousClock.now > deadline {
            Issue.record("did not come true in time: \(what)")
            return
        }
        await Task.yield()
    }
}
