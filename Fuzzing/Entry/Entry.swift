// SPDX-License-Identifier: Apache-2.0
internal import AMQP091FuzzTargets
internal import Glibc

// The fuzzer's entry: libFuzzer calls it with one input after the other (-DFUZZ). The environment names the target, so that
// one program, built once, is all of them. Without -DFUZZ it runs the files it is given, to look at a finding in a debugger.

private let target: FuzzTarget = {
    let name = getenv("AMQP091_FUZZ_TARGET").map { String(cString: $0) } ?? ""
    guard let target = FuzzTarget(rawValue: name) else {
        fatalError("AMQP091_FUZZ_TARGET is none of \(FuzzTarget.allCases.map(\.rawValue))")
    }
    return target
}()

#if FUZZ
    /// Takes one input.
    @_cdecl("LLVMFuzzerTestOneInput")
    public func fuzz(_ octets: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
        target.run(Array(UnsafeBufferPointer(start: octets, count: count)))
        return 0
    }
#else
    @main
    enum Entry {
        static func main() {
            for path in CommandLine.arguments.dropFirst() {
                guard let file = fopen(path, "r") else { fatalError("\(path) cannot be read") }
                var octets: [UInt8] = []
                while case let octet = fgetc(file), octet != EOF { octets.append(UInt8(truncatingIfNeeded: octet)) }
                fclose(file)
                print(path)
                target.run(octets)
            }
        }
    }
#endif
