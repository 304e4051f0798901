// SPDX-License-Identifier: Apache-2.0
import CEcho
import Glibc

// Child: one server in a process of its own, so that its CPU time and its heap are nobody else's.

final class Child {
    let port: UInt16
    private let process: CInt
    private let input: CInt
    private let output: CInt

    convenience init(_ server: Server) { self.init(server.rawValue) }

    init(_ name: String) {
        var input: CInt = -1
        var output: CInt = -1
        self.process = name.withCString { cecho_start($0, &input, &output) }
        self.input = input
        self.output = output
        self.port = UInt16(Self.readLine(output)) ?? 0
    }

    deinit {
        cecho_stop(self.process)
        close(self.input)
        close(self.output)
    }

    /// CPU time so far, in nanoseconds.
    var cpu: UInt64 { cecho_cpu(self.process) }

    /// Octets malloc has handed out.
    var heap: Int {
        _ = write(self.input, "m", 1)
        return Int(Self.readLine(self.output)) ?? 0
    }

    private static func readLine(_ descriptor: CInt) -> String {
        var line: [UInt8] = []
        var octet: UInt8 = 0
        while read(descriptor, &octet, 1) == 1, octet != UInt8(ascii: "\n") { line.append(octet) }
        return String(decoding: line, as: UTF8.self)
    }
}
