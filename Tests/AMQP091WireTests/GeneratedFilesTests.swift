// SPDX-License-Identifier: Apache-2.0
#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif
import Testing

@testable import AMQP091Codegen

@Suite("Generated files")
struct GeneratedFilesTests {
    /// Sources/AMQP091Wire/Generated of the package this file lies in.
    static var directory: String {
        #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3).joined(separator: "/")
            + "/Sources/AMQP091Wire/Generated"
    }

    @Test("The checked-in files equal the generator's output", arguments: Renderer().files().map(\.name))
    func same(_ name: String) throws {
        let file = try #require(Renderer().files().first { $0.name == name })
        #expect(Self.contents(of: "\(Self.directory)/\(name)") == file.text, "run `swift run AMQP091Codegen`")
    }

    private static func contents(of path: String) -> String? {
        guard let stream = fopen(path, "r") else { return nil }
        defer { fclose(stream) }
        var all: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = fread(&chunk, 1, chunk.count, stream)
            guard count > 0 else { return String(decoding: all, as: UTF8.self) }
            all += chunk[..<count]
        }
    }
}
