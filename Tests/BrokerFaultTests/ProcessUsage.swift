// SPDX-License-Identifier: Apache-2.0
import Foundation

// ProcessUsage: what this process holds: descriptors, threads, memory. Tasks are not counted by the runtime: one that is
// left behind shows as heap that grows, a kilobyte or so each.

struct ProcessUsage: Sendable, CustomStringConvertible {
    var descriptors: Int
    var threads: Int
    /// Octets that malloc has given out.
    var heap: Int
    /// Octets of memory in use.
    var resident: Int

    static var now: ProcessUsage {
        let manager = FileManager.default
        let statm = (try? String(contentsOf: URL(fileURLWithPath: "/proc/self/statm"), encoding: .utf8)) ?? ""
        let pages = statm.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
        return ProcessUsage(
            descriptors: (try? manager.contentsOfDirectory(atPath: "/proc/self/fd").count) ?? 0,
            threads: (try? manager.contentsOfDirectory(atPath: "/proc/self/task").count) ?? 0,
            heap: Self.heap,
            resident: pages * Int(sysconf(Int32(_SC_PAGESIZE)))
        )
    }

    /// Memory that malloc(3) has from the system without its free parts: the sums at the end of malloc_info(3), which the
    /// C library's module does not show.
    private static var heap: Int {
        typealias Information = @convention(c) (Int32, UnsafeMutablePointer<FILE>) -> Int32
        var text: UnsafeMutablePointer<CChar>?
        var size = 0
        guard let symbol = dlsym(nil, "malloc_info"), let stream = open_memstream(&text, &size) else { return 0 }
        let status = unsafeBitCast(symbol, to: Information.self)(0, stream)
        fclose(stream)
        defer { free(text) }
        guard status == 0, let text else { return 0 }
        let sums = String(cString: text).components(separatedBy: "</heap>").last ?? ""
        func octets(_ kind: String) -> Int {
            let parts = sums.components(separatedBy: "\(kind)\"").dropFirst().first?.components(separatedBy: "size=\"")
            return parts?.dropFirst().first.flatMap { Int($0.prefix { $0.isNumber }) } ?? 0
        }
        return octets("current") + octets("mmap") - octets("fast") - octets("rest")
    }

    var description: String {
        "\(self.descriptors) descriptors, \(self.threads) threads, \(self.heap >> 10) KiB of heap, "
            + "\(self.resident >> 10) KiB resident"
    }
}
