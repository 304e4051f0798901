// SPDX-License-Identifier: Apache-2.0
// The code of the article "An echo server": what the programs echo-server, echo-client and echo-tls do not have.

import EpollNetworking

func echo() async throws {
    try await TCPListener.withListener(on: .host("127.0.0.1", port: 7777)) { listener in
        try await listener.serve { connection in
            for try await chunk in connection.inbound { try await connection.write(chunk) }
            try await connection.finish()
        }
    }
}

#if TLS
    func serve(_ listener: TCPListener) async throws {
        let identity = TLSConfiguration.identity(certificateChain: "server.pem", privateKey: "server.key")
        let context = try TLSContext(identity, role: .server)
        try await listener.serve(tls: context) { connection in
            for try await chunk in connection.inbound { try await connection.write(chunk) }
            try await connection.finish()
        }
    }

    func connect() async throws {
        let context = try TLSContext(.client(roots: .file(path: "ca.pem")), role: .client)
        try await TCPConnection.withConnection(to: .host("echo.example", port: 7778), tls: context) { connection in
            try await connection.write("hello\n")
        }
    }
#endif
