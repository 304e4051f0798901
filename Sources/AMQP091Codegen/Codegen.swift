// SPDX-License-Identifier: Apache-2.0

// Codegen: `swift run AMQP091Codegen [directory]` writes the files of Renderer.
// The directory is Sources/AMQP091Wire/Generated under the current one unless another is named.

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

@main
struct Codegen {
    static func main() {
        let directory = CommandLine.arguments.dropFirst().first ?? "Sources/AMQP091Wire/Generated"
        for file in Renderer().files() {
            let path = "\(directory)/\(file.name)"
            guard self.write(file.text, to: path) else {
                print("cannot write \(path)")
                exit(1)
            }
        }
    }

    private static func write(_ text: String, to path: String) -> Bool {
        guard let stream = fopen(path, "w") else { return false }
        let octets = Array(text.utf8)
        let written = fwrite(octets, 1, octets.count, stream)
        return fclose(stream) == 0 && written == octets.count
    }
}
