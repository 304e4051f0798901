import AMQP091

let uri = "amqp://guest:guest@localhost"
try await AMQPClient.withClient(uri) { client in
}
