// SPDX-License-Identifier: Apache-2.0
import Foundation

// ProcessUsage: what this process and the broker's processes have used so far, and what machine this is.

/// Processor time and memory of this process since it started.
struct ProcessUsage: Sendable {
    /// User and system time of all threads, microseconds.
    var cpuMicroseconds: UInt64
    /// The largest resident set of this program, octets.
    var maxResidentOctets: UInt64

    static var now: ProcessUsage {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        let seconds = UInt64(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
        let microseconds = UInt64(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec)
        return ProcessUsage(
            cpuMicroseconds: seconds * 1_000_000 + microseconds,
            maxResidentOctets: Self.maxResidentOctets
        )
    }

    /// VmHWM, because getrusage also counts what the process was before it became this program.
    private static var maxResidentOctets: UInt64 {
        let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
        return (line?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { UInt64($0) } ?? 0) * 1024
    }
}

/// Processor time of each thread of this process, from /proc.
struct ThreadUsage: Sendable {
    /// User and system time by thread, microseconds.
    private var cpu: [String: UInt64] = [:]

    static var now: ThreadUsage {
        var usage = ThreadUsage()
        for thread in (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/task")) ?? [] {
            guard let facts = ProcStat("/proc/self/task/\(thread)/stat") else { continue }
            usage.cpu[thread] = facts.cpuMicroseconds
        }
        return usage
    }

    /// Time the busiest thread used since an earlier moment, microseconds.
    func busiest(since earlier: ThreadUsage) -> UInt64 {
        self.cpu.map { thread, cpu in cpu - min(cpu, earlier.cpu[thread] ?? 0) }.max() ?? 0
    }
}

/// What a stat file of /proc says of a process or thread.
private struct ProcStat {
    var session: Int32
    var cpuMicroseconds: UInt64

    init?(_ path: String) {
        guard let stat = try? String(contentsOfFile: path, encoding: .utf8), let nameEnd = stat.lastIndex(of: ")")
        else { return nil }
        // After the name: state, parent, group, session, … with user and system time at 11 and 12.
        let fields = stat[stat.index(after: nameEnd)...].split(separator: " ")
        guard fields.count > 12, let session = Int32(fields[3]), let user = UInt64(fields[11]),
            let system = UInt64(fields[12])
        else { return nil }
        self.session = session
        self.cpuMicroseconds = (user + system) * 1_000_000 / UInt64(sysconf(Int32(_SC_CLK_TCK)))
    }
}

/// Processor time of all processes of a session, from /proc.
struct SessionUsage: Sendable {
    /// The session's id: the pid of its first process.
    var session: Int32

    /// User and system time of the session's living processes, microseconds.
    var cpuMicroseconds: UInt64 {
        let pids = (try? FileManager.default.contentsOfDirectory(atPath: "/proc"))?.compactMap { Int32($0) } ?? []
        return pids.reduce(0) { sum, pid in
            guard let facts = ProcStat("/proc/\(pid)/stat"), facts.session == self.session else { return sum }
            return sum + facts.cpuMicroseconds
        }
    }
}

/// Processor time of a broker that was started here.
struct BrokerUsage: Sendable {
    /// The CPU time of its processes; nil if it does not run.
    var now: @Sendable () -> BrokerCPU?
}

/// Processor time of the processes of a broker.
struct BrokerCPU: Hashable, Sendable {
    /// Their session: another one after the broker was killed and started again.
    var session: Int32
    /// User and system time, microseconds.
    var microseconds: UInt64

    /// The processes of a session at this moment.
    init(session: Int32) {
        self.init(session: session, microseconds: SessionUsage(session: session).cpuMicroseconds)
    }

    init(session: Int32, microseconds: UInt64) {
        self.session = session
        self.microseconds = microseconds
    }

    /// The CPU time of the same processes since an earlier moment in microseconds; nil if they are others.
    func since(_ earlier: BrokerCPU) -> UInt64? {
        guard self.session == earlier.session, self.microseconds >= earlier.microseconds else { return nil }
        return self.microseconds - earlier.microseconds
    }
}

/// What a result must say about the machine it was measured on.
struct MachineFacts: Codable, Hashable, Sendable {
    var model: String
    var cores: Int
    var kernel: String

    static var here: MachineFacts {
        let information = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)) ?? ""
        let model = information.split(separator: "\n").first { $0.hasPrefix("model name") }
            .flatMap { $0.split(separator: ":").last }
        let kernel = (try? String(contentsOfFile: "/proc/sys/kernel/osrelease", encoding: .utf8)) ?? "unknown"
        return MachineFacts(
            model: model.map { $0.trimmingCharacters(in: .whitespaces) } ?? "unknown",
            cores: ProcessInfo.processInfo.activeProcessorCount,
            kernel: kernel.trimmingCharacters(in: .whitespacesAndNewlines)
        )
    }
}
