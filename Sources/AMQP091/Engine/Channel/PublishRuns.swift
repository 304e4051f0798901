// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import DequeModule

// PublishRuns: what the unconfirmed publishes of one channel can be told apart by, so that the one that made the broker
// close the channel is found from the text of `channel.close`: exchange, expiration, user id, and the line that sent it.
// Publishes in a row that agree in all of these are one run: a line that publishes again costs three comparisons.
// Not here: sizes of bodies and which publishes are unconfirmed (ConfirmRing). Guarded by the connection's lock.

struct PublishRuns {
    struct Run {
        let first: UInt64
        let exchange: String
        let expiration: String?
        let userID: String?
        let site: CallSite
    }

    /// Exchanges remembered as served.
    private static let limit = 16

    private(set) var runs = Deque<Run>()
    /// Site and exchange of the last run, for a comparison that copies no run; no site if the run has properties.
    private var plainSite: CallSite?
    private var plainExchange = ""
    /// Exchanges that took a publish on this channel, the newest last.
    private var served: [String] = []

    /// A publish was numbered.
    ///
    /// - Parameters:
    ///   - sequence: Its number.
    ///   - exchange: Its exchange.
    ///   - properties: Its properties.
    ///   - site: The line that publishes.
    ///   - lowest: The lowest number that is unconfirmed.
    @inline(__always)
    mutating func note(
        _ sequence: UInt64,
        exchange: String,
        properties: BasicProperties,
        site: CallSite,
        lowest: UInt64
    ) {
        if let plainSite, properties.isEmpty, plainSite.isSame(as: site), self.plainExchange == exchange { return }
        self.noteChange(sequence, exchange: exchange, properties: properties, site: site, lowest: lowest)
    }

    @inline(never)
    private mutating func noteChange(
        _ sequence: UInt64,
        exchange: String,
        properties: BasicProperties,
        site: CallSite,
        lowest: UInt64
    ) {
        if let last = self.runs.last, last.site.isSame(as: site), last.exchange == exchange,
            last.expiration == properties.expiration, last.userID == properties.userID
        {
            return
        }
        let isPlain = properties.expiration == nil && properties.userID == nil
        self.plainSite = isPlain ? site : nil
        self.plainExchange = exchange
        self.begin(
            Run(
                first: sequence,
                exchange: exchange,
                expiration: properties.expiration,
                userID: properties.userID,
                site: site
            ),
            lowest: lowest
        )
    }

    private mutating func begin(_ run: Run, lowest: UInt64) {
        while self.runs.count > 1, self.runs[1].first <= lowest {
            let settled = self.runs.removeFirst()
            guard self.served.last != settled.exchange else { continue }
            self.served.removeAll { $0 == settled.exchange }
            if self.served.count == Self.limit { self.served.removeFirst() }
            self.served.append(settled.exchange)
        }
        self.runs.append(run)
    }

    /// Whether a publish to this exchange has had its outcome on this channel.
    ///
    /// - Parameters:
    ///   - exchange: The exchange.
    ///   - lowest: The lowest number that is unconfirmed.
    /// - Returns: False also when it is no longer known.
    func hasServed(_ exchange: String, lowest: UInt64) -> Bool {
        self.served.contains(exchange) || self.runs.contains { $0.exchange == exchange && $0.first < lowest }
    }

    /// The run a publish belongs to.
    func run(of sequence: UInt64) -> Run? { self.runs.last { $0.first <= sequence } }
}
