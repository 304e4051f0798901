import AMQP091

let uri = "amqp://guest:guest@localhost"
let topology = AMQPTopology { topology in
    topology.queue("orders", as: .quorum(deliveryLimit: 5, deadLetter: .queue("orders.dead")))
    topology.queue("orders.dead", as: .quorum())
}
try await AMQPClient.withClient(uri, topology: topology) { client in
}
