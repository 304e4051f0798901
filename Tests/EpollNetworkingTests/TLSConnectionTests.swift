// SPDX-License-Identifier: Apache-2.0
#if TLS
    import Glibc
    import Testing

    @testable import EpollNetworking

    // TLSConnectionTests: servers and clients over TLS on the loopback, with good and bad certificates.

    extension NetworkTests {
        @Suite("TLS connection", .timeLimit(.minutes(2)))
        struct TLSConnectionTests {
            /// An echo server; `body` gets its port and what went wrong on its side.
            private func withEcho(
                _ context: TLSContext,
                _ body: (Endpoint, Log<NetworkError.Kind>) async throws -> Void
            ) async throws {
                let errors = Log<NetworkError.Kind>()
                try await StreamListener.withListener(on: .loopback(port: 0)) { listener in
                    async let served: Void = listener.serve(
                        tls: context,
                        onError: { errors.append(($0 as? NetworkError)?.kind ?? .other) },
                        { connection in
                            for try await chunk in connection.inbound { try await connection.write(chunk) }
                            try await connection.finish()
                        }
                    )
                    try await body(.host("localhost", port: listener.localAddress.port ?? 0), errors)
                    listener.close()
                    try await served
                }
            }

            private func echo(_ endpoint: Endpoint, _ context: TLSContext, _ count: Int = 100) async throws
                -> TLSSession?
            {
                try await StreamConnection.withConnection(to: endpoint, tls: context) { client in
                    let octets = (0..<count).map { UInt8(truncatingIfNeeded: $0) }
                    async let received = client.readAll()
                    try await client.write(octets)
                    try await client.finish()
                    #expect(try await received == octets)
                    return client.tlsSession
                }
            }

            @Test(
                "Octets come back through TLS",
                arguments: [TLSConfiguration.Version.tls12, .tls13],
                [0, 1, 3_000_000]
            )
            func echoes(version: TLSConfiguration.Version, count: Int) async throws {
                try await withEcho(Certificates.server()) { endpoint, errors in
                    let context = try Certificates.client { $0.maximumVersion = version }
                    let session = try await echo(endpoint, context, count)
                    #expect(session?.version == (version == .tls12 ? "TLSv1.2" : "TLSv1.3"))
                    #expect(errors.all.isEmpty)
                }
            }

            static let bad: [(String, NetworkError.Kind, String)] = [
                ("expired", .certificateExpired, "has expired"),
                ("notyet", .certificateNotYetValid, "not valid yet"),
                ("wronghost", .certificateWrongHost, "elsewhere.example"),
                ("untrusted", .certificateUntrusted, "not trusted"),
            ]

            @Test("F22: a bad certificate is refused by the name of what is wrong with it", arguments: bad)
            func badCertificate(name: String, kind: NetworkError.Kind, words: String) async throws {
                try await withEcho(Certificates.server(name)) { endpoint, errors in
                    let error = await #expect(throws: NetworkError.self) {
                        _ = try await StreamConnection.connect(to: endpoint, tls: Certificates.client())
                    }
                    #expect(error?.kind == kind)
                    #expect(error?.text.contains(words) == true, "\(error?.text ?? "")")
                    await eventually { !errors.all.isEmpty }
                    // Only who says so gets around it.
                    if name == "wronghost" {
                        let anyHost = try Certificates.client { $0.serverVerification = .insecureAnyHost }
                        _ = try await echo(endpoint, anyHost)
                        let named = try Certificates.client { $0.serverName = "elsewhere.example" }
                        _ = try await echo(endpoint, named)
                    }
                    let blind = try Certificates.client { $0.serverVerification = .insecureNone }
                    _ = try await echo(endpoint, blind)
                }
            }

            @Test("An address is verified as an address")
            func numericHost() async throws {
                try await withEcho(Certificates.server()) { endpoint, _ in
                    guard case .host(_, let port) = endpoint else { return }
                    _ = try await echo(.host("127.0.0.1", port: port), Certificates.client())
                    _ = try await echo(.address(.loopback(port: port)), Certificates.client())
                }
                try await withEcho(Certificates.server("wronghost")) { endpoint, _ in
                    guard case .host(_, let port) = endpoint else { return }
                    let error = await #expect(throws: NetworkError.self) {
                        _ = try await StreamConnection.connect(
                            to: .host("127.0.0.1", port: port),
                            tls: Certificates.client()
                        )
                    }
                    #expect(error?.kind == .certificateWrongHost)
                }
            }

            @Test("Without roots that know the issuer a certificate is not trusted")
            func systemRoots() async throws {
                try await withEcho(Certificates.server()) { endpoint, _ in
                    let error = await #expect(throws: NetworkError.self) {
                        _ = try await StreamConnection.connect(to: endpoint, tls: TLSContext(.client(), role: .client))
                    }
                    #expect(error?.kind == .certificateUntrusted)
                }
            }

            @Test(
                "Mutual TLS: the client's certificate is required, verified, and known to the server",
                arguments: [12, 13]
            )
            func mutual(version: Int) async throws {
                var configuration = Certificates.identity("good")
                configuration.clientVerification = .required
                configuration.maximumVersion = version == 12 ? .tls12 : .tls13
                let subjects = Log<String>()
                try await StreamListener.withListener(on: .loopback(port: 0)) { listener in
                    let context = try TLSContext(configuration, role: .server)
                    async let served: Void = listener.serve(tls: context) { connection in
                        subjects.append(connection.tlsSession?.peerSubject ?? "none")
                        for try await chunk in connection.inbound { try await connection.write(chunk) }
                    }
                    let endpoint = Endpoint.host("localhost", port: listener.localAddress.port ?? 0)
                    var identity = Certificates.identity("client")
                    identity.privateKey = Certificates.path("client_encrypted_key")
                    identity.privateKeyPassword = "secret"
                    _ = try await echo(endpoint, TLSContext(identity, role: .client))
                    #expect(subjects.all == ["CN=guest"])
                    for name in ["none", "untrusted"] {
                        var identity = Certificates.identity("untrusted")
                        if name == "none" {
                            identity.certificateChain = nil
                            identity.privateKey = nil
                        }
                        let context = try TLSContext(identity, role: .client)
                        let error = await #expect(throws: NetworkError.self) {
                            try await StreamConnection.withConnection(to: endpoint, tls: context) { client in
                                // With TLS 1.3 the refusal comes after the client's handshake.
                                _ = try await client.read()
                            }
                        }
                        #expect(error?.kind == .certificateRefused, "\(error?.text ?? "")")
                    }
                    listener.close()
                    try await served
                }
            }

            @Test("A second connection resumes the session of the first", arguments: [true, false])
            func resumption(isAllowed: Bool) async throws {
                try await withEcho(Certificates.server()) { endpoint, _ in
                    let context = try Certificates.client { $0.resumesSessions = isAllowed }
                    #expect(try await echo(endpoint, context)?.isResumed == false)
                    #expect(try await echo(endpoint, context)?.isResumed == isAllowed)
                }
            }

            @Test("A protocol is agreed on, the server's choice first; none in common ends the handshake")
            func applicationProtocols() async throws {
                var configuration = Certificates.identity("good")
                configuration.applicationProtocols = ["two", "one"]
                try await withEcho(TLSContext(configuration, role: .server)) { endpoint, _ in
                    let both = try Certificates.client { $0.applicationProtocols = ["one", "two"] }
                    #expect(try await echo(endpoint, both)?.applicationProtocol == "two")
                    let none = try Certificates.client()
                    #expect(try await echo(endpoint, none)?.applicationProtocol == nil)
                    let other = try Certificates.client { $0.applicationProtocols = ["three"] }
                    let error = await #expect(throws: NetworkError.self) { _ = try await echo(endpoint, other) }
                    #expect(error?.kind == .tls)
                    #expect(error?.text.contains("ALPN") == true)
                }
            }

            @Test("A reload is seen by later connections; a bad one leaves the old in use")
            func reload() async throws {
                let directory = "/tmp/epoll-net-reload-\(getpid())"
                mkdir(directory, 0o700)
                defer { _ = system("rm -rf \(directory)") }
                func install(_ name: String) {
                    _ = system("cp \(Certificates.path(name)) \(directory)/chain.pem")
                    _ = system("cp \(Certificates.path("\(name)_key")) \(directory)/key.pem")
                }
                install("expired")
                let context = try TLSContext(
                    .identity(certificateChain: "\(directory)/chain.pem", privateKey: "\(directory)/key.pem"),
                    role: .server
                )
                try await withEcho(context) { endpoint, _ in
                    let client = try Certificates.client()
                    let error = await #expect(throws: NetworkError.self) { _ = try await echo(endpoint, client) }
                    #expect(error?.kind == .certificateExpired)
                    install("good")
                    try context.reload()
                    _ = try await echo(endpoint, client)
                    unlink("\(directory)/chain.pem")
                    #expect(throws: NetworkError.self) { try context.reload() }
                    _ = try await echo(endpoint, client)
                }
            }

            @Test("Secrets are logged when asked for, and only then")
            func keyLog() async throws {
                let file = "/tmp/epoll-net-keys-\(getpid())"
                unlink(file)
                defer { unlink(file) }
                try await withEcho(Certificates.server()) { endpoint, _ in
                    _ = try await echo(endpoint, Certificates.client())
                    #expect(access(file, F_OK) != 0)
                    _ = try await echo(endpoint, Certificates.client { $0.keyLogFile = file })
                    var status = stat()
                    #expect(stat(file, &status) == 0)
                    #expect(status.st_size > 0)
                    #expect(status.st_mode & 0o777 == 0o600)
                }
            }

            @Test("F22, F28: a plain peer, a silent peer and a peer that hangs up are each told apart")
            func otherPeers() async throws {
                try await StreamListener.withListener(on: .loopback(port: 0)) { listener in
                    let endpoint = Endpoint.host("localhost", port: listener.localAddress.port ?? 0)
                    let context = try Certificates.client()
                    for what in ["plain", "silent", "gone"] {
                        async let connecting = #expect(throws: NetworkError.self) {
                            _ = try await StreamConnection.connect(
                                to: endpoint,
                                tls: context,
                                timeout: what == "silent" ? .milliseconds(500) : .seconds(20)
                            )
                        }
                        let server = try #require(try await listener.accept(timeout: .seconds(10)))
                        if what == "plain" { try await server.write("HTTP/1.1 400 Bad Request\r\n\r\n") }
                        if what == "gone" {
                            _ = try await server.read()
                            server.close()
                        }
                        let error = await connecting
                        switch what {
                        case "plain":
                            #expect(error?.text.contains("does not speak TLS") == true, "\(error?.text ?? "")")
                        case "silent": #expect(error?.kind == .timedOut)
                        default: #expect(error?.kind == .reset || error?.kind == .tls, "\(error?.text ?? "")")
                        }
                        server.close()
                    }
                }
            }

            @Test("A server is not held up by a client that says nothing, and drops it in time")
            func silentClient() async throws {
                let errors = Log<NetworkError.Kind>()
                let context = try Certificates.server()
                // Nobody is dropped by the first, and nobody but the silent one knocks at the second.
                for timeout in [Duration.seconds(60), .milliseconds(50)] {
                    try await StreamListener.withListener(on: .loopback(port: 0)) { listener in
                        async let served: Void = listener.serve(
                            tls: context,
                            handshakeTimeout: timeout,
                            onError: { errors.append(($0 as? NetworkError)?.kind ?? .other) },
                            { for try await chunk in $0.inbound { try await $0.write(chunk) } }
                        )
                        let silent = try await StreamConnection.connect(to: listener.localAddress)
                        if timeout == .seconds(60) {
                            let endpoint = Endpoint.host("localhost", port: listener.localAddress.port ?? 0)
                            _ = try await echo(endpoint, Certificates.client())
                            #expect(errors.all.isEmpty)
                            silent.abort()
                            await eventually { errors.all == [.reset] }
                        } else {
                            await eventually { errors.all == [.reset, .timedOut] }
                            silent.close()
                        }
                        listener.close()
                        try await served
                    }
                }
            }

            @Test("A dot at the end of a name and the zone of an address are not part of what a certificate names")
            func certifiedNames() async throws {
                for (host, name) in [
                    ("broker.example.", "broker.example"), ("broker.example", "broker.example"), (".", "."), ("", ""),
                    ("fe80::1%eth0", "fe80::1"), ("::1", "::1"), ("127.0.0.1", "127.0.0.1"), ("50%off", "50%off"),
                ] {
                    #expect(TLSEngine.certifiedName(host) == name)
                }
                try await withEcho(Certificates.server()) { endpoint, _ in
                    guard case .host(_, let port) = endpoint else { return }
                    _ = try await echo(.host("localhost.", port: port), Certificates.client())
                }
            }

            @Test(
                "A server that requires a certificate refuses a client without one, whatever that does",
                arguments: [12, 13]
            )
            func requiredCertificate(version: Int) async throws {
                var configuration = Certificates.identity("good")
                configuration.clientVerification = .required
                configuration.maximumVersion = version == 12 ? .tls12 : .tls13
                let context = try TLSContext(configuration, role: .server)
                let errors = Log<NetworkError.Kind>()
                var options = ListenerOptions()
                options.connection.lingerTime = .milliseconds(200)
                let listener = try await StreamListener.listen(on: .loopback(port: 0), options: options)
                let serving = Task {
                    try await listener.serve(
                        tls: context,
                        onError: { errors.append(($0 as? NetworkError)?.kind ?? .other) },
                        { _ in Issue.record("a client without a certificate was served") }
                    )
                }
                let endpoint = Endpoint.host("localhost", port: listener.localAddress.port ?? 0)
                for what in ["read", "write", "both"] {
                    let error = await #expect(throws: NetworkError.self) {
                        try await within(.seconds(20)) {
                            let client = try await StreamConnection.connect(to: endpoint, tls: Certificates.client())
                            if what == "both" { try await client.write([1]) }
                            if what != "write" { _ = try await client.read() }
                            // A peer that only writes notices at a later write.
                            while true { try await client.write([1]) }
                        }
                    }
                    #expect(error?.kind == .certificateRefused, "\(what): \(error?.text ?? "")")
                }
                await eventually { errors.all.count == 3 }
                #expect(errors.all == [.certificateRefused, .certificateRefused, .certificateRefused])
                listener.close()
                try await serving.value
            }

            @Test("Small chunks share records")
            func records() async throws {
                let overhead = Log<Int>()
                try await withEcho(Certificates.server()) { endpoint, _ in
                    guard case .host(_, let port) = endpoint else { return }
                    let proxy = try await StreamListener.listen(on: .loopback(port: 0))
                    let passing = Task {
                        try await proxy.serve { client in
                            let server = try await StreamConnection.connect(to: .loopback(port: port))
                            async let back: Void = {
                                for try await chunk in server.inbound { try await client.write(chunk) }
                                try await client.finish()
                            }()
                            var count = 0
                            for try await chunk in client.inbound {
                                count += chunk.count
                                try await server.write(chunk)
                            }
                            try await server.finish()
                            overhead.append(count)
                            try await back
                        }
                    }
                    try await StreamConnection.withConnection(
                        to: .host("localhost", port: proxy.localAddress.port ?? 0),
                        tls: Certificates.client()
                    ) { client in
                        let chunks = (0..<2000).map {
                            ByteChunk([UInt8](repeating: UInt8($0 & 255), count: 100 + $0 % 3))
                        }
                        async let received = client.readAll()
                        try await client.write(chunks)
                        try await client.finish()
                        #expect(try await received == chunks.flatMap(Array.init))
                    }
                    await eventually { !overhead.all.isEmpty }
                    // A record adds 22 octets; 13 full ones and the handshake are less than 200 small ones.
                    #expect(overhead.all[0] < 2000 * 101 + 200 * 22, "\(overhead.all[0])")
                    proxy.close()
                    try await passing.value
                }
            }

            @Test("Both directions at once, from several writers, through small socket buffers")
            func fullDuplex() async throws {
                var options = SocketOptions()
                options.sendBuffer = 16 << 10
                try await withPair(client: options, server: options) { client, server in
                    async let accepted: Void = server.startTLS(Certificates.server())
                    try await client.startTLS(Certificates.client(), host: "localhost")
                    try await accepted
                    try await withThrowingTaskGroup(of: Int.self) { group in
                        for (from, to) in [(client, server), (server, client)] {
                            group.addTask {
                                try await withThrowingTaskGroup(of: Void.self) { writers in
                                    for octet in UInt8(0)..<4 {
                                        writers.addTask {
                                            try await from.write([UInt8](repeating: octet, count: 500_000))
                                        }
                                    }
                                    try await writers.waitForAll()
                                }
                                try await from.finish()
                                return 0
                            }
                            group.addTask { try await to.readAll().count }
                        }
                        var total = 0
                        for try await count in group { total += count }
                        #expect(total == 2 * 4 * 500_000)
                    }
                }
            }
        }
    }
#endif
