// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import EpollNetworking
import Logging

// Dialer: how a connection is made, for AMQPConnection and AMQPClient alike: the credentials are asked for once, then the
// addresses race (ConnectionRace), each with a socket and a login of its own, before one deadline.
// Not here: the login's dialogue (ConnectionSession), and when a client connects again (ConnectionLink).

struct Dialer: Sendable {
    private let configuration: AMQPClientConfiguration
    private let tls: TLSContext?
    private let deadline: MonotonicTime
    private let logger: Logger

    /// Checks the options and asks for the credentials.
    init(_ configuration: AMQPClientConfiguration, logger: Logger?) async throws(AMQPError) {
        try configuration.validate()
        self.tls = try ConnectionTLS.prepareTLS(configuration.tls)
        self.deadline = MonotonicTime.now.advanced(by: configuration.connectTimeout)
        var configuration = configuration
        configuration.authentication = try await CredentialRefresher.resolved(
            configuration.authentication,
            until: self.deadline,
            on: EventLoopGroup.shared.next()
        )
        self.configuration = configuration
        self.logger = logger ?? Logger(label: "amqp091", factory: { _ in SwiftLogNoOpLogHandler() })
    }

    /// Connects to the first address that finishes the login.
    func connect() async throws(AMQPError) -> AMQPConnection {
        let addresses = self.configuration.addresses
        let race = ConnectionRace(
            addresses: addresses,
            order: AddressMemory.shared.order(addresses),
            attemptDelay: self.configuration.recovery.attemptDelay,
            isFirst: true
        ) { (address) throws(AMQPError) in
            try await self.connect(to: address)
        }
        switch await race.run() {
        case .connected(_, let connection): return connection
        case .failed(let error), .refused(let error): throw error
        }
    }

    private func connect(to address: AMQPServerAddress) async throws(AMQPError) -> AMQPConnection {
        do throws(AMQPError) {
            let loop = EventLoopGroup.shared.next()
            let driver = try await ConnectionSession.login(
                over: try await self.transport(to: address, on: loop),
                named: address.description,
                self.configuration,
                tls: self.tls.map { ($0, ConnectionTLS.serverName(address.host)) },
                server: address,
                loop: loop,
                deadline: self.deadline,
                logger: self.logger
            )
            return AMQPConnection(driver: driver)
        } catch {
            self.logger.debug("connect failed", metadata: ["server.address": "\(address)", "error": "\(error)"])
            throw error
        }
    }

    private func transport(
        to address: AMQPServerAddress,
        on loop: EventLoop
    ) async throws(AMQPError) -> any ByteTransport & Sendable {
        let options = SocketOptions(self.configuration)
        do throws(NetworkError) {
            if let path = address.unixPath {
                return try await Connector.connect(
                    to: .unix(path: path),
                    deadline: self.deadline,
                    on: loop,
                    options: options
                )
            }
            return try await Connector.open(
                host: address.host,
                port: address.port,
                deadline: self.deadline,
                on: loop,
                options: options
            )
        } catch {
            throw AMQPError(error)
        }
    }
}
