// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import AMQPBench

@Suite("Profile of rates")
struct RateProfileTests {
    @Test("Parts are rates and times", arguments: ["1k:10s,5k:10s", "1000:10,5000:10s"])
    func reads(_ text: String) throws {
        let profile = try #require(RateProfile(argument: text))
        #expect(profile.parts == [.init(rate: 1000, seconds: 10), .init(rate: 5000, seconds: 10)])
        #expect(profile.seconds == 20)
        #expect(profile.mean == 3000)
    }

    @Test(
        "Anything else is refused",
        arguments: ["", "1k", "1k:", ":10s", "1k:0s", "1k:1s,", "1k:1s:2s", "0:1s", "1:900000000,1:900000000"]
    )
    func refuses(_ text: String) { #expect(RateProfile(argument: text) == nil) }

    @Test("Each part has its number of messages, and the last goes on")
    func due() {
        let profile = RateProfile(parts: [.init(rate: 1000, seconds: 1), .init(rate: 5000, seconds: 2)])
        #expect(profile.due(0) == 0)
        #expect(profile.due(999) == 999_000_000)
        #expect(profile.due(1000) == 1_000_000_000)
        #expect(profile.due(1005) == 1_001_000_000)
        #expect(profile.due(11_000) == 3_000_000_000)
        #expect(profile.due(16_000) == 4_000_000_000)
    }

    @Test("Producers share a profile without gaps or doubles")
    func shares() {
        let profile = RateProfile(parts: [.init(rate: 100, seconds: 1), .init(rate: 1000, seconds: 1)])
        var times: [UInt64] = []
        for share in 0..<7 {
            var schedule = Schedule(profile: profile, share: share, of: 7, start: 0, isOpenLoop: true)
            while schedule.due < 2_000_000_000 {
                times.append(schedule.due)
                schedule.advance(now: 0)
            }
        }
        #expect(times.count == 1100)
        #expect(times.sorted() == (0..<1100).map { profile.due($0) })
    }
}
