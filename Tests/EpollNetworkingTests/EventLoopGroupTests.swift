// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import EpollNetworking

// EventLoopGroupTests: how many loops the shared group gets.

@Suite("Event loop group")
struct EventLoopGroupTests {
    struct Row: Sendable, CustomTestStringConvertible {
        let setting: String?
        let cores: Int
        let count: Int
        var testDescription: String { "\(self.setting ?? "none") on \(self.cores) cores" }
    }

    static let rows = [
        Row(setting: nil, cores: 1, count: 1), Row(setting: nil, cores: 2, count: 1),
        Row(setting: nil, cores: 8, count: 4), Row(setting: nil, cores: 128, count: 4),
        Row(setting: "2", cores: 1, count: 2), Row(setting: "64", cores: 2, count: 64),
        Row(setting: "65", cores: 2, count: 1), Row(setting: "0", cores: 2, count: 1),
        Row(setting: "-1", cores: 2, count: 1), Row(setting: "many", cores: 6, count: 3),
        Row(setting: "", cores: 6, count: 3),
    ]

    @Test("The shared group has half the cores in loops, or as many as the setting says", arguments: rows)
    func sharedCount(_ row: Row) {
        #expect(EventLoopGroup.sharedCount(setting: row.setting, cores: row.cores) == row.count)
    }
}
