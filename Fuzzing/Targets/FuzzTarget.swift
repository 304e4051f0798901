// SPDX-License-Identifier: Apache-2.0

// FuzzTarget: what is fuzzed, by name. Each takes any octets and must come back: a trap, a broken promise or a wait that
// does not end is a finding. Used by the fuzzer (Fuzzing/Entry) and by the unit
// tests, which replay the corpus.

/// A fuzz target.
public enum FuzzTarget: String, CaseIterable, Sendable {
    /// Frames in octets, in pieces of any size, and the methods in them.
    case frames
    /// The order of method, header and bodies.
    case contents
    /// Tables, arrays and properties.
    case tables
    /// URIs and what they mean for a connection.
    case uris
    /// The client's machines of connection and channels: any method at any moment, and any call of the owner.
    case machine
    /// The whole client at one end of a socket pair.
    case client
    /// The in-process broker at one end of a socket pair.
    case broker
    /// TLS with noise on the way.
    case tls

    /// Takes one input; comes back, or traps.
    public func run(_ octets: [UInt8]) {
        switch self {
        case .frames: FrameTarget.run(octets)
        case .contents: ContentTarget.run(octets)
        case .tables: TableTarget.run(octets)
        case .uris: URITarget.run(octets)
        case .machine: MachineTarget.run(octets)
        case .client: ClientTarget.run(octets)
        case .broker: BrokerTarget.run(octets)
        case .tls:
            #if TLS
                TLSTarget.run(octets)
            #endif
        }
    }
}

/// A promise that octets of a peer must not break.
@inline(__always)
func promise(_ holds: @autoclosure () -> Bool, _ sentence: @autoclosure () -> String) {
    if !holds() { fatalError(sentence()) }
}
