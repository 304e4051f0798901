// SPDX-License-Identifier: Apache-2.0
#if TLS
    import EpollNetworking
    import Glibc

    // TLSTarget: a client and a server, and a way between them that does to their octets what the input says: passes them
    // on in pieces, changes or drops some, inserts others, or ends. Plaintext of either side goes in between.
    // The certificates are those of the unit tests, made by scripts/certificates.

    enum TLSTarget {
        private static let directory: String = {
            let root = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
            let directory = "/tmp/epoll-networking-certificates-\(getuid())"
            promise(system("/\(root)/scripts/certificates \(directory)") == 0, "scripts/certificates failed")
            return directory
        }()
        private static let server = Self.context(
            .identity(
                certificateChain: "\(Self.directory)/good.pem",
                privateKey: "\(Self.directory)/good_key.pem",
                roots: .file(path: "\(Self.directory)/ca.pem")
            ),
            .server
        )
        private static let client = Self.context(.client(roots: .file(path: "\(Self.directory)/ca.pem")), .client)

        private static func context(_ configuration: TLSConfiguration, _ role: TLSContext.Role) -> TLSContext {
            do { return try TLSContext(configuration, role: role) } catch { fatalError("\(error)") }
        }

        private final class Side {
            let engine: TLSEngine
            var isDone = false
            var hasFailed = false

            init(_ engine: TLSEngine) { self.engine = engine }

            /// Performs the owner's step after input.
            func work() {
                guard !self.hasFailed else { return }
                do {
                    if !self.isDone { self.isDone = try self.engine.handshake() }
                    guard self.isDone else { return }
                    _ = self.engine.session
                    var buffer = [UInt8](repeating: 0, count: 512)
                    for _ in 0..<100 {
                        guard case .count(let count) = try buffer.withUnsafeMutableBytes({ try engine.read(into: $0) })
                        else { return }
                        promise(count <= buffer.count, "more plaintext than there was room for")
                    }
                } catch {
                    promise((error as? NetworkError)?.text.isEmpty == false, "a failure without a word")
                    self.hasFailed = true
                }
            }

            func write(_ octets: [UInt8]) {
                guard self.isDone, !self.hasFailed else { return }
                do { try octets.withUnsafeBytes { try self.engine.write($0) } } catch { self.hasFailed = true }
            }

            func take(_ octets: [UInt8]) {
                var rest = octets[...]
                while !rest.isEmpty {
                    var taken = 0
                    self.engine.withInputRoom { room in
                        taken = min(room.count, rest.count)
                        rest.prefix(taken).withUnsafeBytes { room.copyMemory(from: UnsafeRawBufferPointer($0)) }
                        return taken
                    }
                    self.work()
                    guard taken > 0 else { return }
                    rest = rest.dropFirst(taken)
                }
            }

            func give(_ limit: Int) -> [UInt8] {
                var octets: [UInt8] = []
                self.engine.withOutput { output in
                    octets = Array(output.prefix(limit))
                    return octets.count
                }
                return octets
            }
        }

        static func run(_ octets: [UInt8]) {
            var input = FuzzInput(octets)
            guard let client = try? TLSEngine(client: Self.client, host: "localhost"),
                let server = try? TLSEngine(server: Self.server)
            else { return }
            let sides = [Side(client), Side(server)]
            sides[0].work()
            while !input.isAtEnd {
                let order = input.octet()
                let (from, to) = (sides[Int(order & 1)], sides[Int(~order & 1)])
                switch order >> 1 & 7 {
                case 0: to.take(from.give(.max))
                case 1: to.take(from.give(Int(input.octet())))
                case 2:
                    var moved = from.give(.max)
                    let at = Int(input.number(octets: 2))
                    if at < moved.count { moved[at] ^= input.octet() }
                    to.take(moved)
                case 3:
                    let moved = from.give(.max)
                    let at = Int(input.octet())
                    to.take(Array(moved.prefix(at) + moved.dropFirst(at + 1 + input.below(16))))
                case 4: to.take(input.take(Int(input.octet())))
                case 5: from.write(input.take(Int(input.octet())))
                case 6:
                    from.engine.finish()
                    to.take(from.give(.max))
                default:
                    to.engine.inputEnded()
                    to.work()
                }
            }
        }
    }
#endif
