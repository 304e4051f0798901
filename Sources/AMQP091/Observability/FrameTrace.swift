// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import Glibc
import Logging

// FrameTrace: prints every frame of a connection: to standard error with AMQP_TRACE=1 in the environment,
// and to the connection's logger at level `trace`. Methods with their arguments, which never show a credential;
// contents as sizes, never properties or bodies. Nil, at no cost, unless one of the two is enabled.

/// Prints frames.
struct FrameTrace: Sendable {
    private let logger: Logger?
    /// Prefix of each line on standard error; nil if that output is disabled.
    private let prefix: String?

    /// Returns nil if both outputs are disabled.
    init?(_ logger: Logger, descriptor: CInt) {
        self.logger = logger.logLevel == .trace ? logger : nil
        self.prefix = Self.isWanted ? "amqp091 #\(descriptor)" : nil
        if self.logger == nil, self.prefix == nil { return nil }
    }

    private static let isWanted = getenv("AMQP_TRACE").map { String(cString: $0) } == "1"

    enum Direction: String {
        case sent = "->"
        case received = "<-"
    }

    /// Prints the whole frames in `octets`; the first sent may be the protocol header.
    func show(_ direction: Direction, _ octets: UnsafeRawBufferPointer) {
        let octets = RawSpan(_unsafeBytes: octets)
        var offset = 0
        if direction == .sent, octets.byteCount >= 8, octets.unsafeLoad(fromByteOffset: 0, as: UInt8.self) == 0x41 {
            self.show(direction, channel: nil, "protocol header 0-9-1")
            offset = 8
        }
        let decoder = FrameDecoder(maximumFrameSize: .max)
        while let frame = try? decoder.next(in: octets, from: offset) {
            self.show(direction, channel: frame.channel, Self.describe(frame, octets.extracting(frame.payload)))
            offset = frame.end
        }
    }

    private func show(_ direction: Direction, channel: ChannelNumber?, _ text: String) {
        if let logger {
            var metadata: Logger.Metadata = ["amqp.direction": "\(direction == .sent ? "sent" : "received")"]
            if let channel { metadata["amqp.channel"] = "\(channel.rawValue)" }
            logger.trace("\(text)", metadata: metadata)
        }
        if let prefix {
            let place = channel.map { " channel \($0.rawValue)" } ?? ""
            let line = Array("\(prefix) \(direction.rawValue)\(place) \(text)\n".utf8)
            _ = line.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
        }
    }

    private static func describe(_ frame: DecodedFrame, _ payload: RawSpan) -> String {
        switch frame.type {
        case .heartbeat: return "heartbeat"
        case .body: return "body, \(payload.byteCount) octets"
        case .header:
            guard let header = try? ContentHeader.decode(payload) else { return "header that cannot be read" }
            return "header of a body of \(header.bodySize) octets"
        case .method:
            guard let method = try? Method.decode(payload) else { return "method that cannot be read" }
            return "\(method)"
        }
    }
}
