// SPDX-License-Identifier: Apache-2.0
import Foundation

// FileOutput: how results get into files: whole or not at all, so that a full disk leaves the older result as it was.

/// Files of results.
enum FileOutput {
    /// Writes a file in one step; a device or a pipe is written to as it is.
    ///
    /// - Throws: ``BenchFailure`` that names the file; an older one is unchanged.
    static func write(_ data: Data, to path: String) throws(BenchFailure) {
        var facts = stat()
        let isSpecial = stat(path, &facts) == 0 && facts.st_mode & S_IFMT != S_IFREG
        do {
            // A link stays a link: its target is replaced.
            let url = URL(fileURLWithPath: path).resolvingSymlinksInPath()
            try data.write(to: url, options: isSpecial ? [] : .atomic)
        } catch {
            throw BenchFailure(
                description: "\(path) cannot be written: \(error.localizedDescription)",
                status: ExitStatus.failed
            )
        }
    }

    /// Writes a text.
    static func write(_ text: String, to path: String) throws(BenchFailure) {
        try self.write(Data(text.utf8), to: path)
    }
}
