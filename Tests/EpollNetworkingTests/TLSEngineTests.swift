// SPDX-License-Identifier: Apache-2.0
#if TLS
    import Glibc
    import Testing

    @testable import EpollNetworking

    // TLSEngineTests: two engines and no socket: what one puts out is what the other gets, in pieces of any size.

    /// Certificates made for this run by scripts/certificates.
    enum Certificates {
        static let directory: String = {
            let root = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
            let directory = "/tmp/epoll-networking-certificates-\(getuid())"
            let status = system("/\(root)/scripts/certificates \(directory)")
            precondition(status == 0, "scripts/certificates failed; see \(directory)/openssl.log")
            return directory
        }()

        static func path(_ name: String) -> String { "\(self.directory)/\(name).pem" }
        static var roots: TLSConfiguration.Roots { .file(path: self.path("ca")) }

        static func identity(_ name: String) -> TLSConfiguration {
            .identity(certificateChain: self.path(name), privateKey: self.path("\(name)_key"), roots: self.roots)
        }

        static func server(_ name: String = "good") throws -> TLSContext {
            try TLSContext(self.identity(name), role: .server)
        }

        static func client(_ change: (inout TLSConfiguration) -> Void = { _ in }) throws -> TLSContext {
            var configuration = TLSConfiguration.client(roots: self.roots)
            change(&configuration)
            return try TLSContext(configuration, role: .client)
        }
    }

    @Suite("TLS engine")
    struct TLSEngineTests {
        /// Moves at most `limit` octets from one to the other; false when there was nothing.
        @discardableResult
        static func move(_ from: TLSEngine, _ to: TLSEngine, limit: Int = .max) -> Bool {
            var moved = 0
            from.withOutput { octets in
                to.withInputRoom { room in
                    moved = min(octets.count, room.count, limit)
                    room.copyMemory(from: UnsafeRawBufferPointer(rebasing: octets.prefix(moved)))
                    return moved
                }
                return moved
            }
            return moved > 0
        }

        static func handshake(_ client: TLSEngine, _ server: TLSEngine, limit: Int = .max) throws {
            for _ in 0..<100_000 {
                let isClientDone = try client.handshake()
                let isServerDone = try server.handshake()
                let moved = self.move(client, server, limit: limit)
                if !self.move(server, client, limit: limit), !moved, isClientDone, isServerDone { return }
            }
            Issue.record("the handshake did not end")
        }

        static func pair(_ client: TLSContext, _ server: TLSContext) throws -> (client: TLSEngine, server: TLSEngine) {
            (try TLSEngine(client: client, host: "localhost"), try TLSEngine(server: server))
        }

        @Test("A peer that asks for new keys again and again, and reads no answer, is a violation")
        func keyUpdates() throws {
            let (client, server) = try Self.pair(Certificates.client(), Certificates.server())
            let (near, far) = MemoryTransport.pair(capacity: 4096)
            let transport = TLSTransport(near, server)
            var room = [UInt8](repeating: 0, count: 4096)
            func send() {
                client.withOutput { octets in
                    if case .count(let count) = far.write(octets) { count } else { 0 }
                }
            }
            func read() -> IOResult {
                var isCut = false
                return room.withUnsafeMutableBytes { transport.read(into: $0, isCut: &isCut) }
            }
            while try !client.handshake() || !transport.isEstablished {
                send()
                _ = read()
                var isCut = false
                client.withInputRoom { room in
                    if case .count(let count) = far.read(into: room, isCut: &isCut) { count } else { 0 }
                }
            }
            let update = try Self.keyUpdate(of: client)
            var result = IOResult.wouldBlock
            for _ in 0..<50_000 {
                update()
                try [UInt8(1)].withUnsafeBytes { try client.write($0) }
                send()
                result = read()
                if case .failed = result { break }
            }
            guard case .failed = result else {
                Issue.record("\(result)")
                return
            }
            #expect(transport.failure?.kind == .tls)
        }

        /// SSL_key_update(3) with a request for the peer's, which the library never sends itself.
        private static func keyUpdate(of engine: TLSEngine) throws -> () -> Void {
            typealias Call = @convention(c) (OpaquePointer, CInt) -> CInt
            let connection = try #require(Mirror(reflecting: engine).descendant("connection") as? OpaquePointer)
            // The first field of the shim's struct.
            let session = UnsafePointer<OpaquePointer>(connection).pointee
            let update = unsafeBitCast(try #require(dlsym(nil, "SSL_key_update")), to: Call.self)
            return { _ = update(session, 1) }
        }

        /// Everything that can be read now.
        static func read(_ engine: TLSEngine) throws -> (octets: [UInt8], end: TLSEngine.Read) {
            var octets: [UInt8] = []
            var buffer = [UInt8](repeating: 0, count: 1000)
            while true {
                let read = try buffer.withUnsafeMutableBytes { room in try engine.read(into: room) }
                guard case .count(let count) = read else { return (octets, read) }
                octets.append(contentsOf: buffer.prefix(count))
            }
        }

        static func write(_ engine: TLSEngine, _ octets: [UInt8]) throws {
            try octets.withUnsafeBytes { try engine.write($0) }
        }

        @Test(
            "Octets pass both ways in pieces of any size, in both versions",
            arguments: [TLSConfiguration.Version.tls12, .tls13],
            [1, 7, 1000, Int.max]
        )
        func passes(version: TLSConfiguration.Version, limit: Int) throws {
            let context = try Certificates.client { $0.maximumVersion = version }
            let (client, server) = try Self.pair(context, Certificates.server())
            try Self.handshake(client, server, limit: limit)
            #expect(client.session.version == (version == .tls12 ? "TLSv1.2" : "TLSv1.3"))
            #expect(client.session.peerSubject == "CN=localhost")
            #expect(server.session.peerSubject == nil)
            let octets = (0..<40_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
            for (from, to) in [(client, server), (server, client)] {
                try Self.write(from, octets)
                var received: [UInt8] = []
                while Self.move(from, to, limit: limit) { received += try Self.read(to).octets }
                #expect(received == octets)
            }
            client.finish()
            while Self.move(client, server, limit: limit) {}
            #expect(try Self.read(server).end == .closed)
        }

        @Test("An end without the word before it is no ordinary end")
        func truncation() throws {
            let (client, server) = try Self.pair(Certificates.client(), Certificates.server())
            try Self.handshake(client, server)
            try Self.write(client, [1, 2, 3])
            Self.move(client, server)
            server.inputEnded()
            #expect(try Self.octets(server) == [1, 2, 3])
            let error = #expect(throws: NetworkError.self) { _ = try Self.read(server) }
            #expect(error?.kind == .reset)
        }

        /// Reads once.
        private static func octets(_ engine: TLSEngine) throws -> [UInt8] {
            var buffer = [UInt8](repeating: 0, count: 100)
            guard case .count(let count) = try buffer.withUnsafeMutableBytes({ try engine.read(into: $0) }) else {
                return []
            }
            return Array(buffer.prefix(count))
        }

        @Test("A handshake that ends in the middle, at any octet, is an error")
        func truncatedHandshake() throws {
            let context = try Certificates.client()
            let contextOfServer = try Certificates.server()
            for share in 0..<12 {
                let (client, server) = try Self.pair(context, contextOfServer)
                _ = try client.handshake()
                Self.move(client, server)
                _ = try server.handshake()
                Self.move(server, client, limit: server.outputCount * share / 12)
                client.inputEnded()
                #expect(throws: NetworkError.self) { while try !client.handshake() {} }
            }
        }

        @Test("Noise is refused in words, and never traps", arguments: 0..<200)
        func noise(seed: UInt64) throws {
            var generator = SplitMix(state: seed)
            let (client, server) = try Self.pair(Certificates.client(), Certificates.server())
            // From pure noise to a good flight with one octet changed.
            _ = try client.handshake()
            var octets: [UInt8] = []
            client.withOutput {
                octets = Array($0)
                return $0.count
            }
            if seed % 2 == 0 {
                octets = (0..<Int.random(in: 1...500, using: &generator)).map { _ in
                    .random(in: 0...255, using: &generator)
                }
            } else {
                octets[Int.random(in: 0..<octets.count, using: &generator)] ^= UInt8.random(
                    in: 1...255,
                    using: &generator
                )
            }
            server.withInputRoom { room in
                room.copyMemory(from: UnsafeRawBufferPointer(octets.withUnsafeBytes { $0 }))
                return octets.count
            }
            server.inputEnded()
            do {
                for _ in 0..<10 where try server.handshake() { Issue.record("noise finished a handshake") }
                Issue.record("noise was not refused")
            } catch {
                #expect(!error.text.isEmpty)
            }
        }

        @Test("A changed record is refused")
        func changedRecord() throws {
            let (client, server) = try Self.pair(Certificates.client(), Certificates.server())
            try Self.handshake(client, server)
            try Self.write(client, [UInt8](repeating: 1, count: 100))
            client.withOutput { octets in
                var changed = Array(octets)
                changed[50] ^= 1
                server.withInputRoom { room in
                    room.copyMemory(from: changed.withUnsafeBytes { UnsafeRawBufferPointer($0) })
                    return changed.count
                }
                return octets.count
            }
            #expect(throws: NetworkError.self) { _ = try Self.read(server) }
        }

        @Test(
            "Settings that cannot be used are refused with the name of the file",
            arguments: [
                "missing", "not a certificate", "other key", "no password", "wrong password", "no roots",
            ]
        )
        func badSettings(what: String) throws {
            var configuration = Certificates.identity("client")
            var named = Certificates.path("client_key")
            switch what {
            case "missing":
                configuration.certificateChain = "/nowhere/chain.pem"
                named = "/nowhere/chain.pem"
            case "not a certificate":
                configuration.certificateChain = "/etc/passwd"
                named = "/etc/passwd"
            case "other key":
                configuration.privateKey = Certificates.path("good_key")
                named = Certificates.path("good_key")
            case "no password", "wrong password":
                configuration.privateKey = Certificates.path("client_encrypted_key")
                configuration.privateKeyPassword = what == "no password" ? nil : "guess"
                named = "password"
            default:
                configuration.roots = .file(path: "/nowhere/ca.pem")
                named = "/nowhere/ca.pem"
            }
            let error = #expect(throws: NetworkError.self) { _ = try TLSContext(configuration, role: .client) }
            #expect(error?.kind == .tls)
            #expect(error?.text.contains(named) == true, "\(error?.text ?? "")")
        }

        private struct SplitMix: RandomNumberGenerator {
            var state: UInt64
            mutating func next() -> UInt64 {
                self.state &+= 0x9E37_79B9_7F4A_7C15
                var z = self.state
                z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
                z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
                return z ^ (z >> 31)
            }
        }
    }
#endif
