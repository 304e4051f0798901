// SPDX-License-Identifier: Apache-2.0
internal import SecretValues

// AMQPCredentials: the credentials of a provider, with their lifetime.

/// A user name and a password or token, which may expire.
public struct AMQPCredentials: Hashable, Sendable, CustomStringConvertible {
    /// The user name.
    public var username: String
    /// The password or token; excluded from descriptions and reflection.
    public var password: String {
        get { self.secret }
        set { self.secret = newValue }
    }
    @Secret private var secret: String
    /// Lifetime of the password from now on; nil if it does not expire.
    public var lifetime: Duration?

    /// Creates credentials.
    public init(username: String, password: String, lifetime: Duration? = nil) {
        self.username = username
        self.secret = password
        self.lifetime = lifetime
    }

    /// The user name and the lifetime, without the password.
    public var description: String {
        self.lifetime.map { "user \(self.username), good for \($0)" } ?? "user \(self.username)"
    }
}

/// Provides user name and password at each connect, such as short-lived ones from a vault.
public final class AMQPCredentialsProvider: Hashable, Sendable {
    private let body: @Sendable () async throws -> AMQPCredentials

    /// Creates a provider that calls `body` at every connect, including reconnects.
    ///
    /// The call counts towards the connect timeout, and must end when its task is cancelled.
    public init(_ body: @escaping @Sendable () async throws -> (username: String, password: String)) {
        self.body = {
            let (username, password) = try await body()
            return AMQPCredentials(username: username, password: password)
        }
    }

    /// Creates a provider that calls `body` at every connect, and again before the credentials expire.
    ///
    /// After four fifths of ``AMQPCredentials/lifetime`` it is called again and the new password is sent
    /// over the existing connection (`connection.update-secret`). Failures are retried, with a
    /// warning in the log, until the broker closes the connection. The user name of a connection does not change.
    ///
    /// - Parameter body: Returns credentials within the connect timeout; must end when its task is cancelled.
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

    /// Compares the provider's object identity.
    public static func == (left: AMQPCredentialsProvider, right: AMQPCredentialsProvider) -> Bool { left === right }

    /// Hashes the provider's object identity.
    public func hash(into hasher: inout Hasher) { hasher.combine(ObjectIdentifier(self)) }
}
