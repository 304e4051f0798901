// SPDX-License-Identifier: Apache-2.0
internal import SecretValues

// AMQPCredentials: what a provider of credentials answers, and how long it is good.

/// A user name, and a password or token, which may be good for a time only.
public struct AMQPCredentials: Hashable, Sendable, CustomStringConvertible {
    /// The user name.
    public var username: String
    /// The password or token; shown by no description and no reflection.
    public var password: String {
        get { self.secret }
        set { self.secret = newValue }
    }
    @Secret private var secret: String
    /// How long the password is good from now on; nil when it does not expire.
    public var lifetime: Duration?

    /// Names the credentials.
    public init(username: String, password: String, lifetime: Duration? = nil) {
        self.username = username
        self.secret = password
        self.lifetime = lifetime
    }

    /// The user name and the lifetime, never the password.
    public var description: String {
        self.lifetime.map { "user \(self.username), good for \($0)" } ?? "user \(self.username)"
    }
}

/// Gives user name and password when a connection is made, such as short-lived ones from a vault.
public final class AMQPCredentialsProvider: Hashable, Sendable {
    private let body: @Sendable () async throws -> AMQPCredentials

    /// Asks `body` at every connect, also after a connection was lost.
    ///
    /// It counts into the time a connect may take, and ends when its task is cancelled.
    public init(_ body: @escaping @Sendable () async throws -> (username: String, password: String)) {
        self.body = {
            let (username, password) = try await body()
            return AMQPCredentials(username: username, password: password)
        }
    }

    /// Asks `body` at every connect, and again before what it gave expires.
    ///
    /// When four fifths of ``AMQPCredentials/lifetime`` have passed, it is asked anew and the broker gets the new
    /// password over the connection that stands (`connection.update-secret`). While that fails it is tried again, with a
    /// warning in the log, until the broker ends the connection. The user name of a connection stays what it was.
    ///
    /// - Parameter body: Each call has the time a connect may take, and ends when its task is cancelled.
    public init(expiring body: @escaping @Sendable () async throws -> AMQPCredentials) {
        self.body = body
    }

    func credentials() async throws(AMQPError) -> AMQPCredentials {
        do {
            return try await self.body()
        } catch let error as CancellationError {
            throw AMQPError(.cancelled, "\(error)", isSafeToRetry: true)
        } catch {
            throw AMQPError(.connectFailed, "the credentials provider failed: \(error)", isSafeToRetry: true)
        }
    }

    /// A provider is equal to itself only.
    public static func == (left: AMQPCredentialsProvider, right: AMQPCredentialsProvider) -> Bool { left === right }

    /// As its identity.
    public func hash(into hasher: inout Hasher) { hasher.combine(ObjectIdentifier(self)) }
}
