// SPDX-License-Identifier: Apache-2.0
// The code of the article "When something fails".

import AMQP091

// snippet.next
func publish(_ message: AMQPMessage, _ publisher: AMQPPublisher) async throws(AMQPError) {
    do {
        try await publisher.publish(message, to: .queue("orders"), mandatory: true, timeout: .seconds(5))
    } catch let error where error.isSafeToRetry {
        print("nothing was written; again:", error)
        try await publisher.publish(message, to: .queue("orders"), mandatory: true)
    } catch let error where error.code == .returned {
        print("no queue took it:", error.replyCode.map(String.init(describing:)) ?? "", error.replyText)
    } catch let error where error.code == .unknownOutcome {
        print("it may or may not have arrived; publish it again with the same message-id:", error)
    }
}
// snippet.end

// snippet.scope
func inspect(_ error: AMQPError) {
    switch error.scope {
    case .operation: print("this call failed; channel and connection stay open")
    case .channel: print("the channel is closed; the connection stays open")
    case .connection: print("the connection is closed")
    }
    if let site = error.callSite { print("most likely because of what was sent at", site) }
}
// snippet.end
