# SPDX-License-Identifier: Apache-2.0
"""What pika observes of a broker: check_pika.py HOST PORT.

Each check is a function; it fails with what differs. The same file runs against RabbitMQ and the in-process broker.
"""
import sys
import uuid

import pika
from pika import exceptions

parameters = pika.ConnectionParameters(sys.argv[1], int(sys.argv[2]), blocked_connection_timeout=20, heartbeat=20)


def same(found, expected, what=""):
    if found != expected:
        raise AssertionError(f"{what}: {found!r}, not {expected!r}")


class Stage:
    def __init__(self):
        self.connection = pika.BlockingConnection(parameters)
        self.channel = self.connection.channel()
        self.name = "pika-" + uuid.uuid4().hex
        self.version = tuple(int(part) for part in self.connection._impl.server_properties["version"].split(".")[:2])

    def queue(self, suffix="", **options):
        durable = not options.get("exclusive", False)
        return self.channel.queue_declare(self.name + suffix, durable=durable, **options).method.queue

    def publish(self, body, key=None, exchange="", mandatory=False, properties=None):
        key = self.name if key is None else key
        self.channel.basic_publish(exchange, key, body, properties=properties, mandatory=mandatory)

    def depth(self, suffix=""):
        return self.channel.queue_declare(self.name + suffix, passive=True).method.message_count

    def pump(self, condition):
        for _ in range(2000):
            if condition():
                return
            self.connection.process_data_events(time_limit=0.01)
        raise AssertionError("nothing came")

    def closed(self, body):
        """The code and the text of the channel.close that `body` brings; a new channel follows."""
        try:
            body()
        except exceptions.ChannelClosedByBroker as error:
            self.channel = self.connection.channel()
            return error.reply_code, error.reply_text
        raise AssertionError("the channel was not closed")

    def end(self):
        if self.connection.is_open:
            if not self.channel.is_open:
                self.channel = self.connection.channel()
            for suffix in ("", ".2"):
                self.channel.queue_delete(self.name + suffix)
            self.channel.exchange_delete(self.name + ".x")
            self.connection.close()


def publish_and_get(s):
    s.queue()
    properties = pika.BasicProperties(
        content_type="text/plain", content_encoding="utf-8", delivery_mode=2, priority=3, correlation_id="c",
        reply_to="r", expiration="60000", message_id="m", timestamp=1700000000, type="t", user_id="guest", app_id="a",
        headers={"text": "ä", "int": 7, "negative": -7, "big": 2**40, "bool": True, "none": None, "bytes": b"\xff\x00",
                 "list": [1, "two"], "table": {"x": 1}},
    )
    s.publish(b"body", properties=properties)
    s.publish(b"")
    s.publish(b"x" * 500_000)
    method, got, body = s.channel.basic_get(s.name)
    same(body, b"body")
    same((method.exchange, method.routing_key, method.redelivered, method.message_count), ("", s.name, False, 2))
    for key in ("content_type", "content_encoding", "delivery_mode", "priority", "correlation_id", "reply_to",
                "expiration", "message_id", "timestamp", "type", "user_id", "app_id", "headers"):
        same(getattr(got, key), getattr(properties, key), key)
    s.channel.basic_ack(method.delivery_tag)
    same(s.channel.basic_get(s.name, auto_ack=True)[2], b"")
    same(s.channel.basic_get(s.name, auto_ack=True)[2], b"x" * 500_000)
    same(s.channel.basic_get(s.name), (None, None, None))


def confirm_and_return(s):
    s.queue()
    s.channel.confirm_delivery()
    s.publish(b"1", mandatory=True)
    try:
        s.publish(b"2", key=s.name + ".none", mandatory=True)
        raise AssertionError("not returned")
    except exceptions.UnroutableError as error:
        [returned] = error.messages
        same((returned.method.reply_code, returned.method.reply_text), (312, "NO_ROUTE"))
        same((returned.method.exchange, returned.method.routing_key), ("", s.name + ".none"))
        same(returned.body, b"2")
    s.publish(b"3", key=s.name + ".none")
    same(s.depth(), 1)


def refused_when_full(s):
    s.queue(arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    s.channel.confirm_delivery()
    s.publish(b"1")
    try:
        s.publish(b"2")
        raise AssertionError("not refused")
    except exceptions.NackError:
        pass
    same(s.channel.basic_get(s.name, auto_ack=True)[2], b"1")


def consume_and_prefetch(s):
    s.queue()
    for number in range(5):
        s.publish(b"%d" % number)
    got = []
    s.channel.basic_qos(prefetch_count=2)
    tag = s.channel.basic_consume(s.name, lambda c, m, p, b: got.append((m, b)))
    s.pump(lambda: len(got) >= 2)
    same(s.depth(), 3)
    same([(m.consumer_tag, m.delivery_tag, m.redelivered, b) for m, b in got],
         [(tag, 1, False, b"0"), (tag, 2, False, b"1")])
    s.channel.basic_ack(2, multiple=True)
    s.pump(lambda: len(got) >= 4)
    s.channel.basic_nack(3, requeue=False)
    s.channel.basic_reject(4, requeue=True)
    s.pump(lambda: len(got) >= 6)
    same([(m.delivery_tag, m.redelivered, b) for m, b in got[4:]],
         [(5, False, b"4"), (6, True, b"3")] if got[4][1] == b"4" else [(5, True, b"3"), (6, False, b"4")])
    s.channel.basic_cancel(tag)
    s.channel.basic_nack(0, multiple=True, requeue=True)
    bodies = [s.channel.basic_get(s.name, auto_ack=True) for _ in range(2)]
    same([(m.redelivered, b) for m, _, b in bodies], [(True, b"3"), (True, b"4")])
    same(s.depth(), 0)


def recover(s):
    s.queue()
    s.publish(b"1")
    same(s.channel.basic_get(s.name)[0].redelivered, False)
    s.channel.basic_recover(requeue=True)
    same(s.channel.basic_get(s.name, auto_ack=True)[0].redelivered, True)


def dead_letters(s):
    s.queue(".2")
    s.queue(arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": s.name + ".2"})
    s.publish(b"1")
    s.channel.basic_nack(s.channel.basic_get(s.name)[0].delivery_tag, requeue=False)
    for _ in range(500):
        method, properties, body = s.channel.basic_get(s.name + ".2", auto_ack=True)
        if method:
            break
        s.connection.sleep(0.01)
    same(body, b"1")
    [death] = properties.headers["x-death"]
    same([death[key] for key in ("reason", "queue", "exchange", "count", "routing-keys")],
         ["rejected", s.name, "", 1, [s.name]])


def poison_message(s):
    s.queue(".2")
    s.queue(arguments={"x-queue-type": "quorum", "x-delivery-limit": 2, "x-dead-letter-exchange": "",
                       "x-dead-letter-routing-key": s.name + ".2"})
    s.publish(b"1")
    deliveries = []

    def reject(channel, method, properties, body):
        deliveries.append((properties.headers or {}).get("x-delivery-count", 0))
        channel.basic_reject(method.delivery_tag, requeue=True)

    s.channel.basic_consume(s.name, reject)
    s.pump(lambda: s.depth(".2") == 1)
    same(deliveries, [0, 1, 2], "x-delivery-count")
    method, properties, body = s.channel.basic_get(s.name + ".2", auto_ack=True)
    same(properties.headers["x-death"][0]["reason"], "delivery_limit")


def late_acknowledgement(s):
    if s.version < (4, 3):
        return
    s.queue(arguments={"x-queue-type": "quorum", "x-consumer-timeout": 300})
    cancels, deliveries = [], []
    s.channel.add_on_cancel_callback(lambda frame: cancels.append(frame.method.consumer_tag))
    s.channel.basic_qos(prefetch_count=1)
    tag = s.channel.basic_consume(s.name, lambda c, m, p, b: deliveries.append(m.delivery_tag))
    s.publish(b"1")
    s.pump(lambda: cancels)
    same((cancels, deliveries, s.depth()), ([tag], [1], 1))
    # The broker keeps the consumer until it is cancelled; pika has forgotten it, and fails when it hears of it again.
    s.channel._impl._send_method(pika.spec.Basic.Cancel(consumer_tag=tag, nowait=True))
    s.channel.basic_ack(1)
    same((s.channel.queue_declare(s.name, passive=True).method.consumer_count, s.depth()), (0, 1))


def transient_queue(s):
    # Debian's 4.3 allows them.
    try:
        s.channel.queue_declare(s.name, durable=False)
    except exceptions.ConnectionClosedByBroker as error:
        same((s.version >= (4, 3), error.reply_code), (True, 541))
        same(error.reply_text.startswith("INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated."), True)


def topic_routing(s):
    s.queue()
    s.channel.exchange_declare(s.name + ".x", "topic")
    s.channel.queue_bind(s.name, s.name + ".x", "stock.*.#")
    for key in ("stock.a", "stock", "stock.a.b.c", "other.a"):
        s.publish(key.encode(), key=key, exchange=s.name + ".x")
    same([s.channel.basic_get(s.name, auto_ack=True)[2] for _ in range(3)], [b"stock.a", b"stock.a.b.c", None])


def transactions(s):
    s.queue()
    s.channel.tx_select()
    s.publish(b"1")
    s.channel.tx_rollback()
    s.publish(b"2")
    s.channel.tx_commit()
    same((s.depth(), s.channel.basic_get(s.name, auto_ack=True)[2]), (1, b"2"))
    s.channel.tx_commit()


def refusals(s):
    s.queue()
    same(s.closed(lambda: s.channel.queue_declare(s.name + ".none", passive=True)),
         (404, f"NOT_FOUND - no queue '{s.name}.none' in vhost '/'"))
    same(s.closed(lambda: s.channel.queue_declare(s.name, durable=False)),
         (406, f"PRECONDITION_FAILED - inequivalent arg 'durable' for queue '{s.name}' in vhost '/': "
               "received 'false' but current is 'true'"))
    same(s.closed(lambda: s.channel.exchange_declare("amq.mine", "direct"))[0], 403)
    s.queue(".2", exclusive=True)
    other = pika.BlockingConnection(parameters)
    channel = other.channel()
    try:
        channel.queue_declare(s.name + ".2", passive=True)
        raise AssertionError("not locked")
    except exceptions.ChannelClosedByBroker as error:
        same(error.reply_code, 405)
    other.close()

    def unknown_tag():
        s.channel.basic_ack(99)
        s.channel.queue_declare(s.name, passive=True)

    same(s.closed(unknown_tag), (406, "PRECONDITION_FAILED - unknown delivery tag 99"))

    def nowhere():
        s.publish(b"", exchange=s.name + ".none")
        s.channel.queue_declare(s.name, passive=True)

    same(s.closed(nowhere), (404, f"NOT_FOUND - no exchange '{s.name}.none' in vhost '/'"))


def cancelled_by_the_broker(s):
    s.queue()
    seen = []
    s.channel.add_on_cancel_callback(lambda frame: seen.append(frame.method.consumer_tag))
    tag = s.channel.basic_consume(s.name, lambda *a: None)
    s.channel.queue_delete(s.name)
    s.pump(lambda: seen)
    same(seen, [tag])


def direct_reply_to(s):
    s.queue()
    answers = []
    s.channel.basic_consume("amq.rabbitmq.reply-to", lambda c, m, p, b: answers.append((b, p.correlation_id)),
                            auto_ack=True)
    s.publish(b"question", properties=pika.BasicProperties(reply_to="amq.rabbitmq.reply-to", correlation_id="7"))
    server = pika.BlockingConnection(parameters)
    channel = server.channel()
    while True:
        method, properties, body = channel.basic_get(s.name, auto_ack=True)
        if method:
            break
    channel.basic_publish("", properties.reply_to, b"answer",
                          pika.BasicProperties(correlation_id=properties.correlation_id))
    s.pump(lambda: answers)
    same(answers, [(b"answer", "7")])
    server.close()


def wrong_password(s):
    try:
        pika.BlockingConnection(pika.ConnectionParameters(
            sys.argv[1], int(sys.argv[2]), credentials=pika.PlainCredentials("guest", "wrong")))
        raise AssertionError("let in")
    except exceptions.ProbableAuthenticationError:
        pass


def unknown_virtual_host(s):
    try:
        pika.BlockingConnection(pika.ConnectionParameters(sys.argv[1], int(sys.argv[2]), virtual_host="none"))
        raise AssertionError("let in")
    except (exceptions.ConnectionClosedByBroker, exceptions.ProbableAccessDeniedError) as error:
        same("530" in str(error) or getattr(error, "reply_code", 0) == 530, True, str(error))


checks = [publish_and_get, confirm_and_return, refused_when_full, consume_and_prefetch, recover, dead_letters,
          poison_message, late_acknowledgement, transient_queue, topic_routing, transactions, refusals, cancelled_by_the_broker, direct_reply_to, wrong_password,
          unknown_virtual_host]
failed = 0
for check in checks:
    stage = Stage()
    try:
        check(stage)
        print("ok", check.__name__, flush=True)
    except Exception as error:
        failed += 1
        print("FAILED", check.__name__, type(error).__name__, error, flush=True)
    stage.end()
print(f"{len(checks) - failed} of {len(checks)} checks passed")
sys.exit(1 if failed else 0)
