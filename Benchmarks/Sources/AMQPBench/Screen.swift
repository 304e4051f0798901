// SPDX-License-Identifier: Apache-2.0
import Foundation
import Synchronization

// Screen: where the text for people goes. Standard output, or standard error when the JSON takes standard output.
// Escapes and the line that is drawn over go to a terminal only; NO_COLOR and --color are obeyed.

/// The text output of a run.
final class Screen: Sendable {
    private let file: Int32
    private let hasLiveLine = Mutex(false)
    /// True when the output is a terminal that can draw a line over.
    let isTerminal: Bool
    /// How text is set off.
    let style: Style

    init(usesStandardError: Bool, color: ColorChoice) {
        self.file = usesStandardError ? STDERR_FILENO : STDOUT_FILENO
        let environment = ProcessInfo.processInfo.environment
        self.isTerminal = isatty(self.file) == 1 && environment["TERM"] ?? "dumb" != "dumb"
        let style: Style =
            switch color {
            case .always: .ansi
            case .never: .plain
            case .auto: self.isTerminal && (environment["NO_COLOR"] ?? "").isEmpty ? .ansi : .plain
            }
        self.style = style.fitting(Self.width(of: self.file))
    }

    /// Characters of a line of a terminal; nil for anything else, whose lines are as long as they get.
    private static func width(of file: Int32) -> Int? {
        var size = winsize()
        guard isatty(file) == 1, ioctl(file, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return nil }
        return max(Int(size.ws_col), Self.narrowest)
    }

    /// Terminals that claim to be narrower are written to as if they were not.
    private static let narrowest = 20

    /// Writes lines.
    func show(_ lines: [String]) {
        var fitting = lines
        if let width = self.style.width {
            fitting = lines.flatMap { line in
                line.split(separator: "\n", omittingEmptySubsequences: false)
                    .flatMap { Text.wrapped(String($0), width: width) }
            }
        }
        self.hasLiveLine.withLock { hasLiveLine in
            self.write((hasLiveLine ? "\r\u{1B}[K" : "") + fitting.map { $0 + "\n" }.joined())
            hasLiveLine = false
        }
    }

    func show(_ line: String) { self.show([line]) }

    /// Draws a line that the next output replaces; only on a terminal.
    func showLive(_ line: String) {
        guard self.isTerminal else { return }
        self.hasLiveLine.withLock { hasLiveLine in
            // A line that wraps cannot be drawn over.
            self.write("\r\u{1B}[K" + line.prefix(self.style.width.map { $0 - 1 } ?? .max))
            hasLiveLine = true
        }
    }

    private func write(_ text: String) { Self.write(Data(text.utf8), to: self.file) }

    /// Writes all of it, or as much as the other side still takes.
    static func write(_ data: Data, to file: Int32) {
        data.withUnsafeBytes { octets in
            var done = 0
            while done < octets.count {
                let count = Glibc.write(file, octets.baseAddress! + done, octets.count - done)
                if count < 0 && errno == EINTR { continue }
                if count < 0 && errno == EPIPE { Interruption.outputClosed() }
                guard count > 0 else { return }
                done += count
            }
        }
    }
}

/// Colours, or none, and the width of a line.
struct Style: Sendable {
    fileprivate var usesEscapes: Bool
    /// Characters of a line; nil for as many as it takes.
    private(set) var width: Int?
    static let plain = Style(usesEscapes: false)
    static let ansi = Style(usesEscapes: true)

    /// The same for lines of a width.
    func fitting(_ width: Int?) -> Style { Style(usesEscapes: self.usesEscapes, width: width) }

    func bold(_ text: String) -> String { self.wrap(text, "1") }
    func dim(_ text: String) -> String { self.wrap(text, "2") }
    func red(_ text: String) -> String { self.wrap(text, "31") }

    private func wrap(_ text: String, _ code: String) -> String {
        self.usesEscapes ? "\u{1B}[\(code)m\(text)\u{1B}[0m" : text
    }
}
