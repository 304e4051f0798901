// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire

// FrameTarget: the first octet says how large the pieces are in which the others come. What is found must not depend on
// them; a method that is read must be written and read again as the same; the short cuts for deliveries and for confirms
// must see what the general decoder sees.

enum FrameTarget {
    private struct Found: Equatable {
        var frames: [DecodedFrame] = []
        var error: WireError?
        /// Where the first frame begins that was not found.
        var end = 0
    }

    static func run(_ octets: [UInt8]) {
        var input = FuzzInput(octets)
        let pieces = input.octet()
        let stream = input.rest()
        let whole = Self.decode(stream, upTo: [stream.count])
        let size = max(1, Int(pieces & 31))
        let cuts = Array(stride(from: size, to: stream.count, by: size)) + [stream.count]
        let split = Self.decode(stream, upTo: cuts)
        promise(whole == split, "frames depend on how they are read: \(whole) \(split)")
        for frame in whole.frames {
            promise(frame.payload.lowerBound >= 7 && frame.end <= stream.count, "a frame outside its octets")
            if frame.type == .method { Self.readAgain(stream, frame.payload) }
        }
        Self.compare(stream, whole)
    }

    private static func decode(_ stream: [UInt8], upTo cuts: [Int]) -> Found {
        let decoder = FrameDecoder(maximumFrameSize: 4096)
        var found = Found()
        for cut in cuts {
            let octets = stream.span.bytes.extracting(0..<cut)
            do throws(WireError) {
                while let frame = try decoder.next(in: octets, from: found.end) {
                    promise(frame.end > found.end, "a frame of no octets")
                    found.frames.append(frame)
                    found.end = frame.end
                }
            } catch {
                found.error = error
                return found
            }
        }
        return found
    }

    /// A method that was read can be written, unless its text was repaired or its numbers are none, and is the same then.
    private static func readAgain(_ stream: [UInt8], _ payload: Range<Int>) {
        guard let method = try? Method.decode(stream.span.bytes.extracting(payload)) else { return }
        _ = method.id
        var buffer = WireBuffer()
        guard (try? method.encode(into: &buffer)) != nil else { return }
        let again = try? Method.decode(buffer.bytes)
        promise(again == method, "\(method) was read again as \(String(describing: again))")
    }

    /// Where the short cut says "a confirm", there is one, and everywhere else there is none.
    private static func compareConfirm(_ stream: [UInt8], _ frame: DecodedFrame, _ confirm: ConfirmRecord?) {
        let payload = stream.span.bytes.extracting(frame.payload)
        let method = frame.type == .method && frame.payload.count == 13 ? try? Method.decode(payload) : nil
        let expected: ConfirmRecord? =
            switch method {
            case .basicAck(let ack):
                ConfirmRecord(
                    channel: frame.channel.rawValue,
                    tag: ack.deliveryTag.rawValue,
                    multiple: ack.multiple,
                    isAck: true
                )
            case .basicNack(let nack):
                ConfirmRecord(
                    channel: frame.channel.rawValue,
                    tag: nack.deliveryTag.rawValue,
                    multiple: nack.multiple,
                    isAck: false
                )
            default: nil
            }
        promise(confirm == expected, "a confirm that is \(String(describing: expected))")
    }

    /// Where the short cut says "a delivery", there are three frames, and its offsets are theirs.
    private static func compare(_ stream: [UInt8], _ found: Found) {
        for (index, frame) in found.frames.enumerated() {
            let start = frame.payload.lowerBound - Frame.headerSize
            Self.compareConfirm(stream, frame, ConfirmDecoder.find(in: stream.span.bytes, from: start))
            let shortCut = DeliverDecoder.find(
                in: stream.span.bytes,
                from: start,
                maximumFrameSize: 4096,
                maximumContiguous: 1 << 20
            )
            guard case .delivery(let record, let channel, let end) = shortCut else { continue }
            let hasBody = record.bodyCount > 0
            let frames = found.frames[index...].prefix(hasBody ? 3 : 2)
            promise(
                frames.count == (hasBody ? 3 : 2) && frames.last?.end == end
                    && frames.allSatisfy { $0.channel.rawValue == channel },
                "a delivery of other frames"
            )
            promise(
                Int(record.arguments) + Int(record.argumentsCount) <= stream.count
                    && Int(record.properties) + Int(record.propertiesCount) <= stream.count
                    && Int(record.body) + Int(record.bodyCount) <= stream.count,
                "a delivery outside its octets"
            )
            guard let method = try? Method.decode(stream.span.bytes.extracting(frame.payload)),
                case .basicDeliver(let deliver) = method
            else { fatalError("a delivery that is none") }
            promise(deliver.deliveryTag.rawValue == record.tag, "another delivery tag")
        }
    }
}
