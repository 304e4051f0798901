// SPDX-License-Identifier: Apache-2.0
// An echo server and its client over TLS, in one program: swift run --traits TLS echo-tls DIRECTORY
// The directory holds certificates, such as scripts/certificates makes.

import EpollNetworking

#if TLS
    let directory = CommandLine.arguments.dropFirst().first ?? "."
    let identity = TLSConfiguration.identity(
        certificateChain: "\(directory)/good.pem",
        privateKey: "\(directory)/good_key.pem"
    )
    let server = try TLSContext(identity, role: .server)
    let client = try TLSContext(.client(roots: .file(path: "\(directory)/ca.pem")), role: .client)

    try await TCPListener.withListener(on: .host("127.0.0.1", port: 0)) { listener in
        async let served: Void = listener.serve(tls: server) { connection in
            for try await chunk in connection.inbound { try await connection.write(chunk) }
            try await connection.finish()
        }
        let port = listener.localAddress.port ?? 0
        try await TCPConnection.withConnection(to: .host("localhost", port: port), tls: client) { connection in
            print("\(connection.tlsSession?.version ?? "no TLS"), \(connection.tlsSession?.cipher ?? "")")
            try await connection.write("hello\n")
            try await connection.finish()
            for try await chunk in connection.inbound {
                print(String(decoding: chunk, as: UTF8.self), terminator: "")
            }
        }
        listener.close()
        try await served
    }
#else
    print("TLS is not compiled in: swift run --traits TLS echo-tls")
#endif
