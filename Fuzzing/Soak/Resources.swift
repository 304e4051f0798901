// SPDX-License-Identifier: Apache-2.0
import Glibc
import Synchronization

// Resources: what this process holds, from /proc; and the tasks the soak has started and that have not ended.

struct Resources: CustomStringConvertible, Sendable {
    var kibibytes: Int
    /// The allocated part; the rest is code, stacks and free memory of the allocator.
    var heapKibibytes: Int
    var descriptors: Int
    var threads: Int
    var tasks: Int

    static func now() -> Resources {
        let pages = Self.text("/proc/self/statm").split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
        return Resources(
            kibibytes: pages * Int(sysconf(Int32(_SC_PAGESIZE))) / 1024,
            heapKibibytes: Self.allocatedOctets() / 1024,
            // The folder that is being listed is one of them.
            descriptors: Self.count("/proc/self/fd") - 1,
            threads: Self.count("/proc/self/task"),
            tasks: Tasks.live
        )
    }

    var description: String {
        "\(self.kibibytes) KiB resident, \(self.heapKibibytes) KiB allocated, \(self.descriptors) descriptors, "
            + "\(self.threads) threads, \(self.tasks) tasks"
    }

    /// The octets that are allocated and not freed, as malloc_info(3) counts them; the C library's module does not show it.
    private static func allocatedOctets() -> Int {
        typealias Call = @convention(c) (CInt, UnsafeMutablePointer<FILE>) -> CInt
        var text: UnsafeMutablePointer<CChar>?
        var size = 0
        guard let symbol = dlsym(nil, "malloc_info"), let file = open_memstream(&text, &size) else { return 0 }
        let code = unsafeBitCast(symbol, to: Call.self)(0, file)
        fclose(file)
        defer { free(text) }
        guard code == 0, let text else { return 0 }
        // The last of each is the sum of all arenas.
        let lines = String(cString: text).split(separator: "\n")
        func octets(_ start: String) -> Int {
            let line = lines.last { $0.hasPrefix(start) }
            return line?.split(separator: "\"").compactMap { Int($0) }.last ?? 0
        }
        return octets("<system type=\"current\"") + octets("<total type=\"mmap\"")
            - octets("<total type=\"rest\"") - octets("<total type=\"fast\"")
    }

    private static func text(_ path: String) -> String {
        guard let file = fopen(path, "r") else { return "" }
        defer { fclose(file) }
        var buffer = [UInt8](repeating: 0, count: 256)
        let count = fread(&buffer, 1, buffer.count, file)
        return String(decoding: buffer.prefix(count), as: UTF8.self)
    }

    private static func count(_ path: String) -> Int {
        guard let directory = opendir(path) else { return 0 }
        defer { closedir(directory) }
        var count = -2  // . and ..
        while readdir(directory) != nil { count += 1 }
        return count
    }
}

/// Tasks of the soak that run.
enum Tasks {
    private static let count = Atomic<Int>(0)
    static var live: Int { self.count.load(ordering: .relaxed) }

    static func counting(_ body: () async -> Void) async {
        self.count.add(1, ordering: .relaxed)
        await body()
        self.count.subtract(1, ordering: .relaxed)
    }
}

/// The same "random" run for the same seed (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(_ seed: UInt64, _ worker: Int) { self.state = seed &* 0x9E37_79B9_7F4A_7C15 &+ UInt64(worker) }

    mutating func next() -> UInt64 {
        self.state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = self.state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    mutating func below(_ bound: Int) -> Int { Int.random(in: 0..<max(1, bound), using: &self) }
}

func pause(milliseconds: Int) async { try? await Task.sleep(for: .milliseconds(milliseconds)) }

/// A line, at once: standard output may be a file that somebody watches.
func say(_ line: String) {
    let octets = Array((line + "\n").utf8)
    _ = octets.withUnsafeBytes { write(1, $0.baseAddress, $0.count) }
}
