// SPDX-License-Identifier: Apache-2.0
package import Glibc

// LoopThread: starts a detached thread of our own, with every signal blocked so that the program's handlers run on
// the program's threads. Used by loops and by the resolver; the only caller of pthread_create.

package enum LoopThread {
    private final class Body {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    @discardableResult
    package static func start(_ run: @escaping @Sendable () -> Void) throws(SystemError) -> pthread_t {
        var all = sigset_t()
        var previous = sigset_t()
        sigfillset(&all)
        pthread_sigmask(SIG_SETMASK, &all, &previous)
        defer { pthread_sigmask(SIG_SETMASK, &previous, nil) }

        let body = Unmanaged.passRetained(Body(run))
        var thread = pthread_t()
        let code = pthread_create(
            &thread,
            nil,
            { argument in
                if let argument { Unmanaged<Body>.fromOpaque(argument).takeRetainedValue().run() }
                return nil
            },
            body.toOpaque()
        )
        if code != 0 {
            body.release()
            throw SystemError(code: -code, call: "pthread_create")
        }
        pthread_detach(thread)
        return thread
    }
}
