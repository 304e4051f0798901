// SPDX-License-Identifier: Apache-2.0
#if ConfigurationSupport
    public import Configuration

    // Options read through swift-configuration from the application's providers. The caller scopes the
    // reader, as with `config.scoped(to: "amqp")`; the keys here have no prefix. An invalid value is refused with
    // the name of its key; errors never contain values, as some are secrets.

    extension AMQPClientConfiguration {
        /// Creates a configuration from a `ConfigReader`.
        ///
        /// All keys are optional, with the defaults of a configuration without arguments:
        ///
        /// - `uri` (string, secret): as for ``init(uri:)``. Not together with `host`, `port`, `virtualHost`, `username` or
        ///   `password`.
        /// - `host` (string): the broker's host name or address.
        /// - `port` (int): 1...65535; 5672, or 5671 with `tls.enabled`.
        /// - `virtualHost` (string).
        /// - `username` (string).
        /// - `password` (string, secret).
        /// - `connectionName` (string): shown on the broker's management pages.
        /// - `heartbeatSeconds` (int): 0...65535.
        /// - `connectTimeoutMs` (int): 1...86400000.
        /// - `rpcTimeoutMs` (int): 1...86400000; the configuration's ``operationTimeout``.
        /// - `channelMax` (int): 1...65535.
        /// - `frameMax` (int): 8192...2147483647.
        /// - `recovery.enabled` (bool): the policy's ``AMQPRecoveryPolicy/isEnabled``.
        /// - `recovery.initialDelayMs` (int): 0...86400000; its ``AMQPRecoveryPolicy/initialDelay``.
        /// - `recovery.maximumDelayMs` (int): 0...86400000, and not below the initial delay; its
        ///   ``AMQPRecoveryPolicy/maximumDelay``.
        /// - `tls.enabled` (bool): needs the trait `TLS`.
        /// - `tls.caFile` (string): a PEM file of the roots to trust, instead of the system's.
        /// - `tls.certificateFile` (string): a PEM file of the client's certificate.
        /// - `tls.privateKeyFile` (string): a PEM file of its key.
        /// - `tls.serverName` (string): the name the certificate is for, where it is not the host.
        ///
        /// With an `EnvironmentVariablesProvider` and `config.scoped(to: "amqp")` these are `AMQP_HOST`,
        /// `AMQP_VIRTUAL_HOST`, `AMQP_RECOVERY_INITIAL_DELAY_MS`, `AMQP_TLS_CA_FILE` and so on.
        ///
        /// - Parameter config: The reader, scoped by the caller.
        /// - Throws: ``AMQPError`` with code `.invalidConfiguration` that names the key.
        public init(config: ConfigReader) throws(AMQPError) {
            let reader = OptionReader(config: config)
            if let uri = try reader.string("uri", isSecret: true) {
                for key in ["host", "port", "virtualHost", "username", "password"] where reader.has(key) {
                    throw OptionReader.invalid("uri", "is given together with \(key)")
                }
                do throws(AMQPError) {
                    try self.init(uri: uri)
                } catch {
                    throw OptionReader.invalid("uri", "cannot be used: \(error.replyText)")
                }
            } else {
                self.init()
            }
            try self.readTLS(reader)
            try self.readBroker(reader)
            if let name = try reader.string("connectionName") { self.connectionName = name }
            if let seconds = try reader.int("heartbeatSeconds", 0...65535) { self.heartbeat = .seconds(seconds) }
            if let time = try reader.int("connectTimeoutMs", 1...86_400_000) {
                self.connectTimeout = .milliseconds(time)
            }
            if let time = try reader.int("rpcTimeoutMs", 1...86_400_000) { self.operationTimeout = .milliseconds(time) }
            if let number = try reader.int("channelMax", 1...65535) { self.channelMax = UInt16(number) }
            if let octets = try reader.int("frameMax", 8192...0x7FFF_FFFF) { self.frameMax = UInt32(octets) }
            try self.readRecovery(reader)
            try self.validate()
        }

        private mutating func readRecovery(_ reader: OptionReader) throws(AMQPError) {
            if let isEnabled = try reader.bool("recovery.enabled") { self.recovery.isEnabled = isEnabled }
            let initial = try reader.int("recovery.initialDelayMs", 0...86_400_000)
            let maximum = try reader.int("recovery.maximumDelayMs", 0...86_400_000)
            if let initial { self.recovery.initialDelay = .milliseconds(initial) }
            if let maximum { self.recovery.maximumDelay = .milliseconds(maximum) }
            guard self.recovery.initialDelay <= self.recovery.maximumDelay else {
                if maximum == nil {
                    throw OptionReader.invalid("recovery.initialDelayMs", "is above the maximum delay")
                }
                throw OptionReader.invalid("recovery.maximumDelayMs", "is below the initial delay")
            }
        }

        private mutating func readBroker(_ reader: OptionReader) throws(AMQPError) {
            let host = try reader.string("host")
            let port = try reader.int("port", 1...65535)
            if host?.isEmpty == true { throw OptionReader.invalid("host", "is empty") }
            if !reader.has("uri") {
                let standard: UInt16 = self.tls == nil ? 5672 : 5671
                self.addresses = [.host(host ?? "localhost", port: port.map { UInt16($0) } ?? standard)]
            }
            if let virtualHost = try reader.string("virtualHost") {
                guard virtualHost.utf8.count <= 255 else {
                    throw OptionReader.invalid("virtualHost", "is longer than 255 octets")
                }
                self.virtualHost = virtualHost
            }
            let username = try reader.string("username")
            let password = try reader.string("password", isSecret: true)
            if username != nil || password != nil {
                self.authentication = .plain(username: username ?? "guest", password: password ?? "guest")
            }
        }

        private mutating func readTLS(_ reader: OptionReader) throws(AMQPError) {
            if let isEnabled = try reader.bool("tls.enabled") {
                if isEnabled {
                    guard Self.hasTLS else { throw OptionReader.invalid("tls.enabled", ConnectionTLS.noTLS) }
                    self.tls = self.tls ?? .require()
                } else {
                    if self.tls != nil { throw OptionReader.invalid("tls.enabled", "is false and uri is amqps://") }
                }
            }
            for key in ["tls.caFile", "tls.certificateFile", "tls.privateKeyFile", "tls.serverName"] {
                guard let value = try reader.string(key) else { continue }
                guard var tls = self.tls else { throw OptionReader.invalid(key, "needs tls.enabled or amqps://") }
                guard !value.isEmpty else { throw OptionReader.invalid(key, "is empty") }
                switch key {
                case "tls.caFile": tls.roots = .file(path: value)
                case "tls.certificateFile": tls.certificateChain = value
                case "tls.privateKeyFile": tls.privateKey = value
                default: tls.serverName = value
                }
                self.tls = tls
            }
        }
    }

    /// Reads options and refuses values of another type by key.
    ///
    /// The reader itself returns nil for a value it cannot convert, as for a missing one.
    struct OptionReader {
        let config: ConfigReader

        static func invalid(_ key: String, _ why: String) -> AMQPError {
            AMQPError(.invalidConfiguration, "\(key) \(why)", isSafeToRetry: true)
        }

        /// Returns true if the key has a value of any type.
        func has(_ key: String) -> Bool {
            let name = ConfigKey(key)
            return self.config.string(forKey: name, isSecret: true) != nil
                || self.config.int(forKey: name, isSecret: true) != nil
                || self.config.bool(forKey: name, isSecret: true) != nil
                || self.config.double(forKey: name, isSecret: true) != nil
        }

        func string(_ key: String, isSecret: Bool = false) throws(AMQPError) -> String? {
            if let value = self.config.string(forKey: ConfigKey(key), isSecret: isSecret) { return value }
            if self.has(key) { throw Self.invalid(key, "is not a string") }
            return nil
        }

        func bool(_ key: String) throws(AMQPError) -> Bool? {
            if let value = self.config.bool(forKey: ConfigKey(key)) { return value }
            if self.has(key) { throw Self.invalid(key, "is not true or false") }
            return nil
        }

        func int(_ key: String, _ range: ClosedRange<Int>) throws(AMQPError) -> Int? {
            guard let value = self.config.int(forKey: ConfigKey(key)) else {
                if self.has(key) { throw Self.invalid(key, "is not a whole number") }
                return nil
            }
            guard range.contains(value) else {
                throw Self.invalid(key, "is not a number from \(range.lowerBound) to \(range.upperBound)")
            }
            return value
        }
    }
#endif
