// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Testing

@Suite("URI")
struct AMQPURITests {
    struct Row: CustomTestStringConvertible, Sendable {
        let text: String
        let user: String
        let password: String
        let host: String
        let port: UInt16
        let virtualHost: String
        var testDescription: String { self.text }

        init(_ text: String, _ user: String, _ password: String, _ host: String, _ port: UInt16, _ virtualHost: String)
        {
            self.text = text
            self.user = user
            self.password = password
            self.host = host
            self.port = port
            self.virtualHost = virtualHost
        }
    }

    static let rows = [
        Row("amqp://user:pass@host:10000/vhost", "user", "pass", "host", 10000, "vhost"),
        Row("amqp://user%61:%61pass@ho%61st:10000/v%2fhost", "usera", "apass", "hoast", 10000, "v/host"),
        Row("amqp://", "guest", "guest", "localhost", 5672, "/"),
        Row("amqp://:@/", "", "", "localhost", 5672, ""),
        Row("amqp://user@", "user", "guest", "localhost", 5672, "/"),
        Row("amqp://host", "guest", "guest", "host", 5672, "/"),
        Row("amqp://:10000", "guest", "guest", "localhost", 10000, "/"),
        Row("amqp:///vhost", "guest", "guest", "localhost", 5672, "vhost"),
        Row("amqp://host/", "guest", "guest", "host", 5672, ""),
        Row("amqp://host/%2F", "guest", "guest", "host", 5672, "/"),
        Row("amqp://[::1]", "guest", "guest", "::1", 5672, "/"),
        Row("AMQP://[fe80::1]:1/a", "guest", "guest", "fe80::1", 1, "a"),
        Row("amqp://[fe80::1%25eth0]:1/a", "guest", "guest", "fe80::1%eth0", 1, "a"),
        Row("amqp://[fe80::1%eth0]", "guest", "guest", "fe80::1%eth0", 5672, "/"),
        Row("amqp://u:p%40%3A%2F@h", "u", "p@:/", "h", 5672, "/"),
    ]

    @Test("U17: a URI is read into its parts", arguments: rows)
    func parts(_ row: Row) throws {
        let uri = try AMQPURI(row.text)
        #expect(uri.username == row.user)
        #expect(uri.password == row.password)
        #expect(uri.host == row.host)
        #expect(uri.port == row.port)
        #expect(uri.virtualHost == row.virtualHost)
    }

    @Test("The zone of an IPv6 address is written as it is read")
    func zone() throws {
        let uri = try AMQPURI("amqp://[fe80::1%25eth0]:1/a")
        #expect(uri.description == "amqp://guest:***@[fe80::1%25eth0]:1/a")
    }

    static let unixRows: [(String, String, String, String)] = [
        ("amqp+unix://%2Frun%2Fbroker.sock", "/run/broker.sock", "guest", "/"),
        ("amqp+unix://me:p%40@%2Frun%2Fa%20b/", "/run/a b", "me", ""),
        (
            "AMQP+UNIX://%2f\(String(repeating: "p", count: 106))/v?heartbeat=1",
            "/\(String(repeating: "p", count: 106))", "guest", "v"
        ),
    ]

    @Test("A Unix socket stands in the place of the host, percent-encoded", arguments: unixRows)
    func unix(_ text: String, _ path: String, _ user: String, _ virtualHost: String) throws {
        let uri = try AMQPURI(text)
        #expect(uri.unixPath == path)
        #expect(uri.username == user)
        #expect(uri.virtualHost == virtualHost)
        #expect(try AMQPURI("\(uri)").unixPath == path)
        let configuration = try AMQPClientConfiguration(uri: text)
        #expect(configuration.addresses == [.unix(path: path)])
        #expect("\(configuration.addresses[0])" == "unix:\(path)")
    }

    static let refused = [
        "host", "http://host", "amqps://host:0", "amqp://host:0", "amqp://host:70000", "amqp://host:abc",
        "amqp://h/%xy",
        "amqp://h/%2", "amqp://::1", "amqp://[::1", "amqp://[]", "amqp://[]:5672/", "amqp://[::1]x", "amqp://h/a/b",
        "amqp://h#f", "amqp://h/%ff",
        "amqp+unix://", "amqp+unix://run", "amqp+unix:///vhost", "amqp+unix://%00/",
        "amqp+unix://%2f\(String(repeating: "p", count: 107))",
        "amqp://h?heartbeat=-1", "amqp://h?heartbeat=70000", "amqp://h?colour=red", "amqp://h?auth_mechanism=cram",
        "amqp://h?cacertfile=/ca.pem", "amqp://h?verify=verify_none", "amqps://h?verify=no", "amqps://h?certfile=",
        "amqp://h?frame_max=4096",
    ]

    @Test("auth_mechanism may be repeated, the preferred first")
    func mechanisms() throws {
        let uri = "amqp://me:p@h?auth_mechanism=external&auth_mechanism=AMQPLAIN"
        let authentication = try AMQPClientConfiguration(uri: uri).authentication
        #expect(authentication == .plain(username: "me", password: "p", mechanisms: [.external, .amqplain]))
        #expect("\(authentication)" == "EXTERNAL AMQPLAIN, user me")
        #expect("\(AMQPAuthentication.external)" == "EXTERNAL")
    }

    #if TLS
        @Test("The parameters of amqps:// set up TLS")
        func tls() throws {
            let plain = try AMQPClientConfiguration(uri: "amqps://h")
            #expect(plain.tls == .require())
            #expect(plain.addresses == [.host("h", port: 5671)])
            #expect(plain.tls?.verification == .full)
            let uri = """
                amqps://h:1?cacertfile=/ca.pem&certfile=/c.pem&keyfile=/k.pem&password=p%26w\
                &verify=verify_none&server_name_indication=other
                """
            let tls = try #require(try AMQPClientConfiguration(uri: uri).tls)
            #expect(tls.roots == .file(path: "/ca.pem"))
            #expect(tls.certificateChain == "/c.pem")
            #expect(tls.privateKey == "/k.pem")
            #expect(tls.privateKeyPassword == "p&w")
            #expect(tls.verification == .insecureNone)
            #expect(tls.serverName == "other")
            #expect(!"\(tls)".contains("p&w"))
        }
    #else
        @Test("Without the trait, TLS is refused with a sentence that says so")
        func noTLS() async throws {
            let byURI = #expect(throws: AMQPError.self) { try AMQPClientConfiguration(uri: "amqps://h") }
            #expect(byURI?.description.contains("enable the trait TLS") == true)
            var configuration = AMQPClientConfiguration()
            configuration.tls = .require()
            let byOption = await #expect(throws: AMQPError.self) { try await AMQPConnection.connect(configuration) }
            #expect(byOption?.description.contains("enable the trait TLS") == true)
        }
    #endif

    @Test("U17: what cannot be used is refused before anything is connected", arguments: refused)
    func refuses(_ text: String) {
        let error = #expect(throws: AMQPError.self) { try AMQPClientConfiguration(uri: text) }
        #expect(error?.code == .invalidConfiguration)
    }

    @Test("U18: no text shows the password")
    func hidesPassword() throws {
        let uri = try AMQPURI("amqp://me:s3cret@host")
        #expect(!"\(uri)".contains("s3cret"))
        let configuration = try AMQPClientConfiguration(uri: "amqp://me:s3cret@host")
        #expect(!"\(configuration.authentication)".contains("s3cret"))
        let error = #expect(throws: AMQPError.self) { try AMQPURI("amqp://me:s3cret@host:abc") }
        #expect(error?.description.contains("s3cret") == false)
    }
}
