// SPDX-License-Identifier: Apache-2.0
public import Glibc
import SystemPackage

// SystemCall: the only place that retries EINTR and turns the -errno of the C shim into an error.

@usableFromInline package enum SystemCall {
    /// Repeats `call` while a signal interrupts it.
    @inlinable @inline(__always)
    package static func retrying<Result: FixedWidthInteger & SignedInteger>(_ call: () -> Result) -> Result {
        while true {
            let result = call()
            if result != -EINTR { return result }
        }
    }

    /// Repeats `call` while a signal interrupts it; throws what else it answers below zero.
    @discardableResult
    package static func checking(_ name: String, _ call: () -> CInt) throws(SystemError) -> CInt {
        let result = self.retrying(call)
        if result < 0 { throw SystemError(code: result, call: name) }
        return result
    }
}

extension SystemError {
    /// From the negative answer of a `cepoll_` function.
    package init(code: some BinaryInteger, call: String) {
        self.init(errno: Errno(rawValue: CInt(clamping: -Int(clamping: code))), call: call)
    }
}
