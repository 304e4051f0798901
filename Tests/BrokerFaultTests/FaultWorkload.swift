// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Testing

// FaultWorkload: a publisher with confirms and a consumer with manual acknowledgement that work while something is done
// to their brokers, and a ledger of what they have seen.

enum FaultWorkload {
    /// Messages a second; few, so that the machine is left to the brokers, which start several times.
    static let rate = 200
    static let queue = "faults"
    static let prefetch: UInt16 = 100
    /// Time to wait for an outcome, over all that is done to the brokers meanwhile.
    static let patience = Duration.seconds(60)

    /// Publishes and consumes while `faults` runs, then publishes no more and waits until all that was confirmed has come.
    ///
    /// With an outbox, what ends otherwise than confirmed is published again. `faults` gets the ledger, to note what it does.
    static func run(
        _ name: String,
        _ configuration: AMQPClientConfiguration,
        topology: AMQPTopology,
        outbox: AMQPOutbox,
        faults: (FaultLedger, AMQPClient) async throws -> Void
    ) async throws -> FaultLedger {
        let ledger = FaultLedger()
        let client = AMQPClient(configuration, topology: topology)
        let began = ContinuousClock.now
        let watching = Task {
            for await event in client.events {
                if event.connection == .consuming, case .disconnected = event.kind {
                    ledger.lostConsumer(prefetch: Int(Self.prefetch))
                }
                switch event.kind {
                case .retrying, .connectFailed: continue
                default: FaultStage.report("\(name): \(FaultLedger.text(.now - began)) s: \(event)")
                }
            }
        }
        try await client.runWhile { client in
            let consuming = Task {
                try await client.consume(Self.queue, prefetch: Self.prefetch) { deliveries in
                    for try await delivery in deliveries {
                        ledger.arrived(delivery.body.string, redelivered: delivery.redelivered)
                        try delivery.ack()
                    }
                }
            }
            let (stopped, stop) = AsyncStream.makeStream(of: Void.self)
            let publishing = Task {
                try await client.withPublisher(maxInFlight: 500, outbox: outbox) { publisher in
                    await Self.publish(with: publisher, ledger, keepsAll: outbox != .none, until: stopped)
                }
            }
            var failure: (any Error)?
            do { try await faults(ledger, client) } catch { failure = error }
            stop.finish()
            try await publishing.value
            let deadline = ContinuousClock.now + .seconds(60)
            while failure == nil, !ledger.missing.isEmpty, ContinuousClock.now < deadline {
                try await Task.sleep(for: .milliseconds(50))
            }
            consuming.cancel()
            do { try await consuming.value } catch let error as AMQPError where error.code == .cancelled {}
            if let failure { throw failure }
        }
        await watching.value
        ledger.report(name)
        return ledger
    }

    /// Publishes numbers at an even rate until `stopped` ends, and waits for the outcome of each.
    private static func publish(
        with publisher: AMQPPublisher,
        _ ledger: FaultLedger,
        keepsAll: Bool,
        until stopped: AsyncStream<Void>
    ) async {
        let (receipts, sent) = AsyncStream.makeStream(of: (Int, AMQPPublishReceipt).self)
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                for await (number, receipt) in receipts {
                    let outcome = await receipt.outcome(timeout: Self.patience)
                    guard keepsAll else {
                        ledger.ended(number, FaultLedger.End(outcome))
                        continue
                    }
                    // With an outbox every message gets through: what the broker refused is published again.
                    var end = outcome
                    while !end.isConfirmed {
                        FaultStage.report("message \(number) ended as \(end)")
                        ledger.publishesAgain(number)
                        do {
                            end = try await publisher.enqueue(
                                Self.message(number),
                                to: .queue(Self.queue),
                                timeout: Self.patience
                            )
                            .outcome(timeout: Self.patience)
                        } catch {
                            FaultStage.report("message \(number) was given up: \(error)")
                            break
                        }
                    }
                    ledger.ended(number, FaultLedger.End(end))
                }
            }
            let publishing = Task {
                let start = ContinuousClock.now
                var count = 0
                while !Task.isCancelled {
                    let number = ledger.next()
                    do {
                        let receipt = try await publisher.enqueue(
                            Self.message(number),
                            to: .queue(Self.queue),
                            timeout: Self.patience
                        )
                        sent.yield((number, receipt))
                    } catch let error as AMQPError where error.isSafeToRetry {
                        ledger.ended(number, .notSent)
                    } catch {
                        ledger.ended(number, .unknown)
                    }
                    count += 1
                    // Publishes missed while the window was full are not made up for in a burst.
                    let due = start + .seconds(1) * count / Self.rate
                    if due > .now {
                        try? await Task.sleep(until: due)
                    } else {
                        count = Int((ContinuousClock.now - start) / .seconds(1) * Double(Self.rate))
                    }
                }
                sent.finish()
            }
            for await _ in stopped {}
            publishing.cancel()
            await publishing.value
        }
    }

    private static func message(_ number: Int) -> AMQPMessage {
        AMQPMessage("\(number)", properties: BasicProperties(deliveryMode: 2))
    }
}

extension FaultLedger.End {
    init(_ outcome: AMQPPublishOutcome) {
        switch outcome {
        case .confirmed: self = .confirmed
        case .nacked, .returned, .refused: self = .nacked
        case .unknown: self = .unknown
        case .notSent: self = .notSent
        }
    }
}
