// SPDX-License-Identifier: Apache-2.0
// An echo server on port 7777 of this host, or on that of the argument: every connection gets back what it sends.

import EpollNetworking

let port = CommandLine.arguments.dropFirst().first.flatMap { UInt16($0) } ?? 7777
try await TCPListener.withListener(on: .host("127.0.0.1", port: port)) { listener in
    print("listening on \(listener.localAddress)")
    try await listener.serve { connection in
        for try await chunk in connection.inbound {  // no read until asked
            try await connection.write(chunk)  // suspends while the peer does not read
        }
        try await connection.finish()  // the client reads the end of the stream
    }
}
