// SPDX-License-Identifier: Apache-2.0
import AMQP091

// URITarget: text as a URI and as the options of a client. Neither a description nor an error may show the password, and
// parts that are written with every octet percent-encoded are read as the same parts.

enum URITarget {
    static func run(_ octets: [UInt8]) {
        let text = String(decoding: octets, as: UTF8.self)
        _ = try? AMQPClientConfiguration(uri: text)
        guard let uri = try? AMQPURI(text) else { return }
        promise(uri.port > 0, "port 0")
        let again = try? AMQPURI(Self.written(uri))
        promise(again == uri, "\(Self.written(uri)) was read as \(String(describing: again))")
        var marked = uri
        marked.password = "\u{1}pa55\u{1}"
        promise(!"\(marked)".contains("pa55"), "a description shows the password")
        do {
            _ = try AMQPClientConfiguration(uri: Self.written(marked) + "&\u{1}=%")
            fatalError("a parameter with half an escape was taken")
        } catch {
            promise(!"\(error)".contains("pa55"), "an error shows the password")
        }
    }

    private static func written(_ uri: AMQPURI) -> String {
        let login = "\(Self.encoded(uri.username)):\(Self.encoded(uri.password))@"
        let place: String
        if let path = uri.unixPath {
            place = "amqp+unix://\(login)\(Self.encoded(path))"
        } else {
            let host = uri.host.contains(":") ? "[\(uri.host)]" : Self.encoded(uri.host)
            place = "\(uri.usesTLS ? "amqps" : "amqp")://\(login)\(host):\(uri.port)"
        }
        let parameters = uri.parameters.map { "\(Self.encoded($0.name))=\(Self.encoded($0.value))" }
        return "\(place)/\(Self.encoded(uri.virtualHost))?\(parameters.joined(separator: "&"))"
    }

    private static func encoded(_ text: String) -> String {
        let digits = Array("0123456789ABCDEF")
        return text.utf8.reduce(into: "") { result, octet in
            result.append("%")
            result.append(digits[Int(octet >> 4)])
            result.append(digits[Int(octet & 15)])
        }
    }
}
