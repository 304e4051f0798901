// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import AMQPBench

@Suite("Quantities")
struct QuantitiesTests {
    @Test(
        "Sizes are read with powers of 1024",
        arguments: [
            ("0", 0), ("256", 256), ("1k", 1024), ("64K", 65536), ("16m", 16 << 20), ("1kb", 1024), ("2KiB", 2048),
            ("256b", 256), ("kb", nil), ("b", nil),
            ("", nil), ("k", nil), ("-1", nil), ("1.5k", nil), ("1g", nil), ("9999999999999999999", nil),
            ("9223372036854775807k", nil),
        ] as [(String, Int?)]
    )
    func sizes(_ text: String, _ octets: Int?) {
        #expect(Size(argument: text)?.octets == octets)
    }

    @Test(
        "Durations are read in seconds where they name no unit",
        arguments: [
            ("10", 10), ("10s", 10), ("500ms", 0.5), ("2m", 120), ("1h", 3600), ("0.5", 0.5), ("0", 0),
            ("1m30s", 90), ("1h1m1s", 3661), ("100us", 0.0001), ("250µs", 0.00025), ("1s500ms", 1.5),
            ("30s1m", nil), ("1m30", nil), ("5 s", nil), ("1s1s", nil), ("", nil), ("s", nil), ("-1s", nil),
            ("ten", nil), ("inf", nil), ("nan", nil), ("1e99", nil), ("999999999s", 999_999_999),
            // More than 31 years do not fit into the nanoseconds of the clock together with a start.
            ("999999999h", nil), ("999999999s999999999ms", nil), ("20000000m", nil),
        ] as [(String, Double?)]
    )
    func durations(_ text: String, _ seconds: Double?) {
        #expect(Seconds(argument: text)?.seconds == seconds)
    }

    @Test(
        "Rates are read with powers of 1000",
        arguments: [
            ("500", 500), ("50k", 50_000), ("1.5k", 1500), ("2m", 2_000_000), ("0.5", 0.5),
            ("0", nil), ("-1", nil), ("k", nil), ("inf", nil), ("10g", nil), ("2000000m", nil),
        ] as [(String, Double?)]
    )
    func readRates(_ text: String, _ perSecond: Double?) {
        #expect(Rate(argument: text)?.perSecond == perSecond)
    }

    @Test(
        "Counts are read with powers of 1000, and are whole",
        arguments: [
            ("0", 0), ("500", 500), ("10k", 10_000), ("1.5K", 1500), ("2m", 2_000_000), ("-5", -5), ("k", nil),
            ("1.5", nil), ("0.0001k", nil), ("", nil), ("infk", nil), ("ten", nil),
        ] as [(String, Int?)]
    )
    func readCounts(_ text: String, _ messages: Int?) {
        #expect(MessageCount(argument: text)?.messages == messages)
    }

    @Test(
        "Thousands are set apart",
        arguments: [(0, "0"), (999, "999"), (1000, "1 000"), (61_840, "61 840"), (1_234_567, "1 234 567")]
            as [(UInt64, String)]
    )
    func counts(_ value: UInt64, _ text: String) {
        #expect(Text.count(value) == text)
    }

    @Test("A rate is a whole number per second and never below zero")
    func rates() {
        #expect(Text.rate(61_839.6) == "61 840/s")
        #expect(Text.rate(-1) == "0/s")
    }

    @Test("Columns are filled, never cut")
    func columns() {
        #expect(Text.right("ab", 4) == "  ab")
        #expect(Text.left("ab", 4) == "ab  ")
        #expect(Text.right("abcdef", 4) == "abcdef")
    }

    @Test("Deviation and drift are nil where there is too little to say")
    func statistics() {
        #expect(Statistics.relativeDeviation([1, 2]) == nil)
        #expect(Statistics.relativeDeviation([0, 0, 0]) == nil)
        #expect(Statistics.relativeDeviation([5, 5, 5]) == 0)
        #expect(abs((Statistics.relativeDeviation([9, 10, 11]) ?? 0) - 0.1) < 1e-12)
        #expect(Statistics.drift([1, 1, 1, 2, 2]) == nil)
        #expect(Statistics.drift([0, 0, 1, 1, 2, 2]) == nil)
        #expect(abs((Statistics.drift([10, 10, 5, 5, 12, 12]) ?? 0) - 0.2) < 1e-12)
    }
}
