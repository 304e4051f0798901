// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

// PublishSites: the last few lines that published on a channel, and an exchange each published to. The broker refuses a
// publish later, under whichever call is next, and names at best the exchange: this finds the line that most likely
// made it. A line that publishes again costs one comparison; only a change of line is written down. Not thread-safe:
// guarded by the connection's lock.

struct PublishSites {
    private struct Entry {
        let site: CallSite
        var exchange: String
    }

    /// How many lines are remembered.
    static let limit = 8

    private var last: CallSite?
    private var entries: [Entry] = []
    /// The entry the next new line replaces.
    private var oldest = 0

    @inline(__always)
    mutating func note(_ site: CallSite, exchange: String) {
        if let last, last.isSame(as: site) { return }
        self.change(to: site, exchange: exchange)
    }

    @inline(never)
    private mutating func change(to site: CallSite, exchange: String) {
        self.last = site
        if let known = self.entries.firstIndex(where: { $0.site.isSame(as: site) }) {
            if self.entries[known].exchange != exchange { self.entries[known].exchange = exchange }
        } else if self.entries.count < Self.limit {
            if self.entries.isEmpty { self.entries.reserveCapacity(Self.limit) }
            self.entries.append(Entry(site: site, exchange: exchange))
        } else {
            self.entries[self.oldest] = Entry(site: site, exchange: exchange)
            self.oldest = (self.oldest + 1) % Self.limit
        }
    }

    /// The line that most likely published what the broker refuses with these words.
    func likeliest(_ replyText: String) -> CallSite? {
        guard let exchange = Self.exchange(in: replyText) else { return self.last }
        // The last line comes first where several published to that exchange.
        if let last, self.entries.contains(where: { $0.exchange == exchange && $0.site.isSame(as: last) }) {
            return last
        }
        return self.entries.last { $0.exchange == exchange }?.site ?? self.last
    }

    /// The X of "no exchange 'X' in vhost '/'".
    private static func exchange(in replyText: String) -> String? {
        let text = replyText.utf8
        let mark = "exchange '".utf8
        var start = text.startIndex
        while !text[start...].starts(with: mark) {
            guard start < text.endIndex else { return nil }
            start = text.index(after: start)
        }
        let name = text[text.index(start, offsetBy: mark.count)...]
        guard let end = name.firstIndex(of: UInt8(ascii: "'")) else { return nil }
        return String(name[..<end])
    }
}
