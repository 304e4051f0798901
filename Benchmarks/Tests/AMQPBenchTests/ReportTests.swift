// SPDX-License-Identifier: Apache-2.0
import Foundation
import Glibc
import Histogram
import Testing

@testable import AMQPBench

@Suite("Report")
struct ReportTests {
    @Test("The JSON has the fields that other programs read")
    func fields() throws {
        let object = try JSONSerialization.jsonObject(with: try Report.example().json())
        let report = try #require(object as? [String: Any])
        func value(_ path: String) -> Any? {
            path.split(separator: ".").reduce(report as Any?) { ($0 as? [String: Any])?[String($1)] }
        }
        #expect(value("schema") as? Int == 1)
        #expect(value("id") as? String == "k7f2")
        #expect(value("ended") as? String == "completed")
        #expect(value("lost") as? Int == 0)
        #expect(value("totals.published") as? Int == 600_000)
        #expect(value("totals.confirmed") as? Int == 599_900)
        #expect(value("totals.consumed") as? Int == 599_000)
        #expect(value("totals.publishedPerSecond") as? Double == 60_000)
        #expect(value("totals.consumedPerSecond") as? Double == 59_900)
        #expect(value("client.cpuMicrosecondsPerMessage") as? Double == 5.25)
        #expect(value("client.maxResidentOctets") as? Int == 31_457_280)
        #expect(value("latency.confirm.p50") as? Double == 9000)
        #expect(value("latency.confirm.p99") as? Double == 18_900)
        #expect(value("broker.product") as? String == "RabbitMQ")
        #expect(value("broker.version") as? String == "4.1.0")
        #expect(value("options.confirms") as? Int == 1024)
        #expect(value("verify.duplicated") as? Int == 0)
        #expect(value("tool.version") as? String == BuildFacts.version)
        #expect(value("machine.cores") as? Int == 2)
        #expect((value("intervals") as? [Any])?.count == 2)
        #expect((value("warnings") as? [Any])?.count == 0)
    }

    @Test("A report is read as it was written")
    func roundTrip() throws {
        let data = try Report.example().json()
        let read = try JSONDecoder().decode(Report.self, from: data)
        #expect(try read.json() == data)
    }

    @Test("Percentiles are microseconds, and the histogram keeps every sample")
    func latency() throws {
        var histogram = LatencyMeter.emptyHistogram
        #expect(LatencySummary(histogram) == nil)
        for number in 1...1000 as ClosedRange<UInt64> { histogram.record(number * 1_000_000) }
        let summary = try #require(LatencySummary(histogram))
        #expect(abs(summary.p50 - 500_000) < 1000)
        #expect(abs(summary.p99 - 990_000) < 1000)
        #expect(abs(summary.max - 1_000_000) < 1000)
        #expect(summary.count == 1000)
        #expect(summary.histogram.reduce(0) { $0 + $1[1] } == 1000)
    }

    @Test("The exit code says how the run ended")
    func status() {
        var report = Report.example()
        #expect(report.status(signal: nil) == 0)
        report.verify.reordered = 1
        #expect(report.status(signal: nil) == 4)
        report.verify.reordered = 0
        report.lost = 1
        #expect(report.status(signal: nil) == 4)
        report.ended = .interrupted
        #expect(report.status(signal: 2) == 130)
        #expect(report.status(signal: 15) == 143)
        report.ended = .failed
        #expect(report.status(signal: nil) == 1)
    }

    @Test("A rate that is not reached is said, of calls too", arguments: [nil, "rpc"])
    func rateNotReached(_ command: String?) {
        var report = Report.example()
        report.tool.build = "release"
        report.options.command = command ?? report.options.command
        report.options.rate = 60_000
        #expect(Warnings.of(report, machine: []).isEmpty)
        report.options.rate = 70_000
        #expect(Warnings.of(report, machine: []) == ["the rate was not reached: 60 000/s, 86 % of 70 000/s"])
    }

    @Test("Processor time is said of a broker that ran all the time, and not of one that was killed and started again")
    func brokerCPU() {
        let before = BrokerCPU(session: 7, microseconds: 1_000_000)
        #expect(BrokerCPU(session: 7, microseconds: 3_000_000).since(before) == 2_000_000)
        #expect(BrokerCPU(session: 8, microseconds: 3_000_000).since(before) == nil)
        #expect(BrokerCPU(session: 7, microseconds: 1).since(before) == nil)
    }

    @Test("Warnings are few, and the weightiest comes first")
    func warnings() {
        var report = Report.example()
        report.tool.build = "release"
        #expect(Warnings.of(report, machine: []).isEmpty)
        report.totals.seconds = 5
        #expect(Warnings.of(report, machine: []) == ["fewer than 10 s were measured"])
        report.broker.wasBlocked = true
        report.client.busiestThreadPercent = 95
        report.tool.build = "debug"
        let warnings = Warnings.of(report, machine: ["swap is in use", "the processor changes its frequency"])
        #expect(warnings.count == Warnings.limit)
        #expect(warnings.first == "debug build: the numbers mean nothing")
        #expect(warnings.contains { $0.hasPrefix("the client is the limit") })
    }

    @Test("An interval's rates are per second as it was, not as it was to be")
    func interval() {
        var start = Snapshot(meters: RunMeters(), publishing: [], broker: nil)
        start.time = 5_000_000_000
        start.counts = Report.Counts(published: 100, confirmed: 100, consumed: 100)
        var end = start
        // A tick of 1 s that came half a second late.
        end.time += 1_500_000_000
        end.counts = Report.Counts(published: 400, confirmed: 250, consumed: 115)
        let row = Report.Interval(
            from: start,
            to: end,
            begin: start,
            isWarmup: false,
            confirm: nil,
            endToEnd: nil
        )
        #expect(row.published == 200 && row.confirmed == 100 && row.consumed == 10)
        #expect(row.time == 1.5)
        let totals = Report.Totals(from: start, to: end, size: 10, intervals: [row])
        #expect(totals.seconds == 1.5 && totals.publishedPerSecond == 200 && totals.consumedPerSecond == 10)
    }

    @Test("Processor time is that of the user and that of the system")
    func systemTime() {
        func clock() -> UInt64 {
            var time = timespec()
            clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
            return UInt64(time.tv_sec) * 1_000_000 + UInt64(time.tv_nsec) / 1000
        }
        let (before, clockBefore) = (ProcessUsage.now, clock())
        // Nearly all of it in the kernel.
        let zeros = open("/dev/zero", O_RDONLY)
        defer { close(zeros) }
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        while clock() - clockBefore < 300_000 { _ = read(zeros, &buffer, buffer.count) }
        let (used, truth) = (ProcessUsage.now.cpuMicroseconds - before.cpuMicroseconds, clock() - clockBefore)
        #expect(abs(Double(used) - Double(truth)) < Double(truth) * 0.1 + 20_000, "\(used) of \(truth) µs")
    }

    @Test("Of several runs the one in the middle is reported, with the figures of all; one that failed does not hide")
    func median() throws {
        func report(_ rate: Double, _ ended: Report.Ending = .completed) -> Report {
            var report = Report.example()
            report.totals.publishedPerSecond = rate
            report.ended = ended
            return report
        }
        let five = try #require(Report.median(of: [50, 10, 40, 20, 30].map { report($0) }))
        #expect(five.totals.publishedPerSecond == 30)
        #expect(five.runs?.map(\.publishedPerSecond) == [50, 10, 40, 20, 30])
        #expect(Report.median(of: [report(7)])?.runs == nil)
        #expect(Report.median(of: [report(1), report(2), report(3, .failed)])?.ended == .failed)
        #expect(Report.median(of: []) == nil)
        // Where nothing is published, the rate is that of the consumers.
        let consumed = [3.0, 1, 2].map { rate -> Report in
            var report = Report.example()
            (report.options.producers, report.totals.consumedPerSecond) = (0, rate)
            return report
        }
        #expect(Report.median(of: consumed)?.totals.consumedPerSecond == 2)
    }

    @Test("Rates are differences of two moments")
    func rates() {
        var start = Snapshot(meters: RunMeters(), publishing: [], broker: nil)
        start.time = 1_000_000_000
        start.client.cpuMicroseconds = 0
        start.counts = Report.Counts(published: 100, confirmed: 90, consumed: 80)
        var end = start
        end.time = 3_000_000_000
        end.client.cpuMicroseconds = 1_000_000
        end.counts = Report.Counts(published: 2100, confirmed: 2050, consumed: 2040)
        let totals = Report.Totals(from: start, to: end, size: 1000, intervals: [])
        #expect(totals.seconds == 2)
        #expect(totals.published == 2000 && totals.confirmed == 1960 && totals.consumed == 1960)
        #expect(totals.publishedPerSecond == 1000)
        #expect(totals.publishedOctetsPerSecond == 1_000_000)
        #expect(totals.inQueue == 60)
        #expect(end.clientPercent(since: start) == 50)
        let none = Report.Totals(from: start, to: start, size: 1000, intervals: [])
        #expect(none.publishedPerSecond == 0)
    }
}

extension Report {
    /// A run of 10 s at round numbers.
    static func example() -> Report {
        var report = Report(
            id: "k7f2",
            started: "2026-01-02T03:04:05Z",
            tool: Tool(commit: "0123456789ab"),
            machine: MachineFacts(model: "Example 3000", cores: 2, kernel: "6.1"),
            broker: Broker(product: "RabbitMQ", version: "4.1.0", startedHere: true, startSeconds: 4.13),
            options: .example
        )
        report.totals.seconds = 10
        report.totals.published = 600_000
        report.totals.confirmed = 599_900
        report.totals.consumed = 599_000
        report.totals.publishedPerSecond = 60_000
        report.totals.confirmedPerSecond = 59_990
        report.totals.consumedPerSecond = 59_900
        report.totals.publishedOctetsPerSecond = 15_360_000
        report.totals.steadinessPercent = 1.34
        report.totals.inQueue = 25
        report.wholeRun = Counts(published: 720_000, confirmed: 720_000, consumed: 720_000)
        report.client = Client(
            cpuMicroseconds: 3_150_000,
            cpuMicrosecondsPerMessage: 5.25,
            cpuPercent: 31.5,
            busiestThreadPercent: 20,
            maxResidentOctets: 31_457_280
        )
        report.broker.cpuPercent = 158.6
        var confirm = LatencyMeter.emptyHistogram
        confirm.record(9_000_000)
        report.latency.confirm = LatencySummary(confirm)
        report.latency.confirm?.count = 600_000
        report.latency.confirm?.p50 = 9000
        report.latency.confirm?.p99 = 18_900
        report.intervals = [
            Interval(
                time: 1,
                isWarmup: true,
                published: 58_210,
                confirmed: 57_902,
                consumed: 57_640,
                inFlight: 1024,
                clientCPUPercent: 31,
                brokerCPUPercent: 152,
                confirmP50: 9800,
                confirmP99: 22_400
            ),
            Interval(
                time: 2,
                isWarmup: false,
                published: 1_058_210,
                confirmed: 0,
                consumed: 7,
                inFlight: 1,
                clientCPUPercent: 100,
                brokerCPUPercent: nil,
                confirmP50: nil,
                confirmP99: nil
            ),
        ]
        return report
    }
}

extension RunOptions {
    /// The defaults of `both`.
    static var example: RunOptions {
        RunOptions(
            command: "both",
            producers: 1,
            consumers: 1,
            time: 10,
            warmup: 2,
            interval: 1,
            size: 256,
            confirms: 1024,
            prefetch: 512,
            ackEvery: 64
        )
    }
}
