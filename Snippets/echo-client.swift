// SPDX-License-Identifier: Apache-2.0
// Says hello to the echo server and prints what comes back. Another port than 7777 is the argument.

import EpollNetworking

let port = CommandLine.arguments.dropFirst().first.flatMap { UInt16($0) } ?? 7777
try await TCPConnection.withConnection(to: .host("127.0.0.1", port: port)) { connection in
    try await connection.write("hello\n")
    try await connection.finish()
    for try await chunk in connection.inbound {
        print(String(decoding: chunk, as: UTF8.self), terminator: "")
    }
}
