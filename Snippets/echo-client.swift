// SPDX-License-Identifier: Apache-2.0
// Says hello to the echo server and prints what comes back.

import EpollNetworking

try await TCPConnection.withConnection(to: .host("127.0.0.1", port: 7777)) { connection in
    try await connection.write("hello\n")
    try await connection.finish()
    for try await chunk in connection.inbound {
        print(String(decoding: chunk, as: UTF8.self), terminator: "")
    }
}
