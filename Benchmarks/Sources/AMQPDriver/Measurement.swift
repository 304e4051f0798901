// SPDX-License-Identifier: Apache-2.0
import Glibc

// Measurement: what the clock and the process's account say between two moments, and the line that reports it.

/// Time and CPU of the whole process at one moment.
struct Reading: Sendable {
    var seconds: Double
    var user: Double
    var system: Double

    static var now: Reading {
        let usage = Self.usage
        return Reading(
            seconds: Self.seconds,
            user: Double(usage.ru_utime.tv_sec) + Double(usage.ru_utime.tv_usec) * 1e-6,
            system: Double(usage.ru_stime.tv_sec) + Double(usage.ru_stime.tv_usec) * 1e-6
        )
    }

    static var seconds: Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
    }

    static var usage: rusage {
        var usage = rusage()
        getrusage(CInt(RUSAGE_SELF.rawValue), &usage)
        return usage
    }
}

/// The timed part of a workload.
struct Measurement: Sendable {
    var start: Reading
    var end: Reading
    /// Seconds each round trip took, for the modes that make them.
    var roundTrips: [Double] = []

    func json(_ driver: AMQPDriver) -> String {
        let seconds = self.end.seconds - self.start.seconds
        let user = self.end.user - self.start.user
        let system = self.end.system - self.start.system
        var fields = [
            "\"client\":\"swift-amqp091\"", "\"mode\":\"\(driver.mode.rawValue)\"", "\"count\":\(driver.count)",
            "\"size\":\(driver.size)", "\"window\":\(driver.confirmWindow)", "\"prefetch\":\(driver.prefetch)",
            "\"ack_every\":\(driver.ackEvery)", "\"connections\":\(driver.connections)", "\"seconds\":\(seconds)",
            "\"rate\":\(Double(driver.count) / seconds)", "\"cpu_user\":\(user)", "\"cpu_sys\":\(system)",
            "\"cpu_us_per_msg\":\((user + system) * 1e6 / Double(driver.count))",
            "\"maxrss_kb\":\(Reading.usage.ru_maxrss)",
        ]
        if !self.roundTrips.isEmpty {
            let sorted = self.roundTrips.sorted()
            fields.append("\"p50_us\":\(sorted[sorted.count / 2] * 1e6)")
            fields.append("\"p99_us\":\(sorted[min(sorted.count - 1, sorted.count * 99 / 100)] * 1e6)")
        }
        return "{" + fields.joined(separator: ",") + "}"
    }
}
