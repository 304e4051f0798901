// SPDX-License-Identifier: Apache-2.0
// What the Java client observes of a broker: java Check HOST PORT.
// Each check fails with what differs. The same file runs against RabbitMQ and the in-process broker.

import com.rabbitmq.client.*;
import java.io.IOException;
import java.util.*;
import java.util.concurrent.*;

public class Check {
    static final ConnectionFactory factory = new ConnectionFactory();

    interface Body {
        void run(Stage stage) throws Exception;
    }

    interface Call {
        void run() throws Exception;
    }

    static void same(Object found, Object expected, String what) {
        if (!Objects.equals(found, expected)) throw new AssertionError(what + ": " + found + ", not " + expected);
    }

    static final class Stage {
        final Connection connection;
        Channel channel;
        final String name = "java-" + UUID.randomUUID();

        Stage() throws Exception {
            connection = factory.newConnection();
            channel = connection.createChannel();
        }

        void queue(String suffix, Map<String, Object> arguments) throws IOException {
            channel.queueDeclare(name + suffix, true, false, false, arguments);
        }

        void queue() throws IOException {
            queue("", null);
        }

        void publish(String body) throws IOException {
            channel.basicPublish("", name, null, body.getBytes());
        }

        String get() throws IOException {
            GetResponse response = channel.basicGet(name, true);
            return response == null ? null : new String(response.getBody());
        }

        /** Code, text and blamed method of the close that a call brings; a new channel follows. */
        String closed(Call call) throws Exception {
            CompletableFuture<ShutdownSignalException> signal = new CompletableFuture<>();
            channel.addShutdownListener(signal::complete);
            try {
                call.run();
            } catch (IOException | AlreadyClosedException expected) {
                // The reason comes from the listener.
            }
            Object reason = signal.get(20, TimeUnit.SECONDS).getReason();
            channel = connection.isOpen() ? connection.createChannel() : null;
            if (reason instanceof AMQP.Channel.Close) {
                AMQP.Channel.Close close = (AMQP.Channel.Close) reason;
                return close.getReplyCode() + " " + close.getReplyText() + " " + close.getClassId() + "."
                        + close.getMethodId();
            }
            AMQP.Connection.Close close = (AMQP.Connection.Close) reason;
            return close.getReplyCode() + " " + close.getReplyText() + " " + close.getClassId() + "."
                    + close.getMethodId();
        }

        void end() throws Exception {
            if (!connection.isOpen()) return;
            if (!channel.isOpen()) channel = connection.createChannel();
            channel.queueDelete(name);
            channel.queueDelete(name + ".2");
            channel.exchangeDelete(name + ".x");
            connection.close();
        }
    }

    /** Deliveries of one consumer. */
    static final class Received extends DefaultConsumer {
        final BlockingQueue<String> lines = new LinkedBlockingQueue<>();

        Received(Channel channel) {
            super(channel);
        }

        @Override
        public void handleDelivery(String tag, Envelope e, AMQP.BasicProperties p, byte[] body) {
            lines.add(e.getDeliveryTag() + (e.isRedeliver() ? " again " : " ") + new String(body));
        }

        @Override
        public void handleCancel(String tag) {
            lines.add("cancelled");
        }

        String next() throws InterruptedException {
            return lines.poll(20, TimeUnit.SECONDS);
        }
    }

    // ------------------------------------------------------------ the checks

    static void publishAndGet(Stage s) throws Exception {
        s.queue();
        Map<String, Object> headers = new TreeMap<>();
        headers.put("byte", (byte) -5);
        headers.put("short", (short) -300);
        headers.put("int", 70_000);
        headers.put("long", 1L << 40);
        headers.put("float", 1.5f);
        headers.put("double", 2.5);
        headers.put("bool", true);
        headers.put("void", null);
        headers.put("date", new Date(1_700_000_000_000L));
        headers.put("decimal", new java.math.BigDecimal("12.34"));
        headers.put("list", Arrays.asList(1, 2));
        headers.put("table", new HashMap<>(Collections.singletonMap("x", 1)));
        AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder().contentType("text/plain")
                .contentEncoding("utf-8").headers(headers).deliveryMode(2).priority(3).correlationId("c").replyTo("r")
                .expiration("60000").messageId("m").timestamp(new Date(1_700_000_000_000L)).type("t").userId("guest")
                .appId("a").build();
        s.channel.basicPublish("", s.name, properties, "body".getBytes());
        s.publish("");
        byte[] large = new byte[1_000_000];
        Arrays.fill(large, (byte) 7);
        s.channel.basicPublish("", s.name, null, large);
        s.channel.queueDeclarePassive(s.name);
        GetResponse first = s.channel.basicGet(s.name, false);
        same(new String(first.getBody()), "body", "body");
        same(first.getProps().builder().headers(null).build().toString(),
                properties.builder().headers(null).build().toString(), "properties");
        same(new TreeMap<>(first.getProps().getHeaders()).toString(), headers.toString(), "headers");
        same(first.getMessageCount(), 2, "messages left");
        same(first.getEnvelope().isRedeliver(), false, "redelivered");
        s.channel.basicAck(first.getEnvelope().getDeliveryTag(), false);
        same(s.get(), "", "empty body");
        same(Arrays.equals(s.channel.basicGet(s.name, true).getBody(), large), true, "large body");
        same(s.get(), null, "empty queue");
    }

    static void confirms(Stage s) throws Exception {
        s.queue();
        s.channel.confirmSelect();
        same(s.channel.getNextPublishSeqNo(), 1L, "first number");
        for (int i = 0; i < 500; i++) s.publish("" + i);
        same(s.channel.waitForConfirms(20_000), true, "confirms");
        same(s.channel.messageCount(s.name), 500L, "messages");
        same(s.channel.queuePurge(s.name).getMessageCount(), 500, "purged");
    }

    static void returnsBeforeConfirms(Stage s) throws Exception {
        BlockingQueue<String> events = new LinkedBlockingQueue<>();
        s.channel.confirmSelect();
        s.channel.addReturnListener((code, text, exchange, key, properties, body) -> events
                .add(code + " " + text + " '" + exchange + "' " + new String(body)));
        s.channel.addConfirmListener(new ConfirmListener() {
            public void handleAck(long tag, boolean multiple) {
                events.add("ack " + tag);
            }

            public void handleNack(long tag, boolean multiple) {
                events.add("nack " + tag);
            }
        });
        s.channel.basicPublish("", s.name + ".none", true, null, "lost".getBytes());
        same(events.poll(20, TimeUnit.SECONDS), "312 NO_ROUTE '' lost", "return");
        same(events.poll(20, TimeUnit.SECONDS), "ack 1", "confirm");
    }

    static void nacks(Stage s) throws Exception {
        Map<String, Object> arguments = new HashMap<>();
        arguments.put("x-max-length", 1);
        arguments.put("x-overflow", "reject-publish");
        s.queue("", arguments);
        s.channel.confirmSelect();
        s.publish("1");
        same(s.channel.waitForConfirms(20_000), true, "the first");
        s.publish("2");
        same(s.channel.waitForConfirms(20_000), false, "the second");
        same(s.get(), "1", "what is there");
    }

    static void prefetch(Stage s) throws Exception {
        s.queue();
        for (int i = 0; i < 5; i++) s.publish("" + i);
        s.channel.basicQos(2);
        Received received = new Received(s.channel);
        String tag = s.channel.basicConsume(s.name, false, received);
        same(received.next(), "1 0", "first");
        same(received.next(), "2 1", "second");
        same(s.channel.messageCount(s.name), 3L, "held back");
        same(received.lines.size(), 0, "more than the prefetch");
        s.channel.basicAck(2, true);
        same(received.next(), "3 2", "third");
        same(received.next(), "4 3", "fourth");
        s.channel.basicNack(3, false, false);
        same(received.next(), "5 4", "fifth");
        s.channel.basicReject(4, true);
        same(received.next(), "6 again 3", "sixth");
        s.channel.basicCancel(tag);
        s.channel.basicNack(0, true, true);
        same(s.get() + s.get(), "34", "in the order they came");
    }

    static void priorities(Stage s) throws Exception {
        Received low = new Received(s.channel);
        Channel other = s.connection.createChannel();
        Received high = new Received(other);
        s.queue();
        other.basicQos(1);
        s.channel.basicConsume(s.name, false, low);
        other.basicConsume(s.name, false, Collections.singletonMap("x-priority", 10), high);
        s.publish("1");
        same(high.next(), "1 1", "higher priority");
        s.publish("2");
        same(low.next(), "1 2", "lower priority");
    }

    static void recovered(Stage s) throws Exception {
        s.queue();
        s.publish("1");
        s.channel.queueDeclarePassive(s.name);
        same(s.channel.basicGet(s.name, false).getEnvelope().isRedeliver(), false, "at first");
        s.channel.basicRecover(true);
        same(s.channel.basicGet(s.name, true).getEnvelope().isRedeliver(), true, "after recover");
    }

    static void deadLetters(Stage s) throws Exception {
        Map<String, Object> arguments = new HashMap<>();
        arguments.put("x-dead-letter-exchange", "");
        arguments.put("x-dead-letter-routing-key", s.name + ".2");
        arguments.put("x-message-ttl", 20);
        s.queue(".2", null);
        s.queue("", arguments);
        Received received = new Received(s.channel);
        s.channel.basicConsume(s.name + ".2", true, received);
        s.publish("old");
        same(received.next(), "1 old", "the dead letter");
    }

    static void routing(Stage s) throws Exception {
        s.queue();
        s.queue(".2", null);
        s.channel.exchangeDeclare(s.name + ".x", "headers");
        Map<String, Object> all = new HashMap<>();
        all.put("x-match", "all");
        all.put("a", 1);
        all.put("b", "two");
        s.channel.queueBind(s.name, s.name + ".x", "", all);
        s.channel.exchangeBind(s.name + ".x", "amq.fanout", "");
        Map<String, Object> headers = new HashMap<>();
        headers.put("a", 1L);
        headers.put("b", "two");
        AMQP.BasicProperties matching = new AMQP.BasicProperties.Builder().headers(headers).build();
        s.channel.basicPublish("amq.fanout", "", matching, "yes".getBytes());
        s.channel.basicPublish(s.name + ".x", "", null, "no".getBytes());
        s.channel.queueDeclarePassive(s.name);
        same(s.get() + s.get(), "yesnull", "routed");
    }

    static void transactions(Stage s) throws Exception {
        s.queue();
        s.channel.txSelect();
        s.publish("1");
        s.channel.txRollback();
        s.publish("2");
        s.channel.txCommit();
        same(s.get(), "2", "committed");
        same(s.get(), null, "rolled back");
        s.channel.txCommit();
    }

    static void refusals(Stage s) throws Exception {
        s.queue();
        same(s.closed(() -> s.channel.queueDeclarePassive(s.name + ".2")),
                "404 NOT_FOUND - no queue '" + s.name + ".2' in vhost '/' 50.10", "missing queue");
        same(s.closed(() -> s.channel.queueDeclare(s.name, false, false, false, null)),
                "406 PRECONDITION_FAILED - inequivalent arg 'durable' for queue '" + s.name
                        + "' in vhost '/': received 'false' but current is 'true' 50.10",
                "durable");
        same(s.closed(() -> s.channel.exchangeDeclare(s.name + ".x", "direct", true, false,
                Collections.singletonMap("alternate-exchange", 1))).substring(0, 3), "406", "alternate exchange");
        same(s.closed(() -> s.channel.basicConsume(s.name + ".2", new DefaultConsumer(s.channel))),
                "404 NOT_FOUND - no queue '" + s.name + ".2' in vhost '/' 60.20", "consume");
        same(s.closed(() -> s.channel.basicAck(99, false)), "406 PRECONDITION_FAILED - unknown delivery tag 99 60.80",
                "ack");
        same(s.closed(() -> s.channel.basicPublish(s.name + ".x", "", null, new byte[0])),
                "404 NOT_FOUND - no exchange '" + s.name + ".x' in vhost '/' 60.40", "publish");
        same(s.closed(() -> s.channel.basicPublish("amq.rabbitmq.trace", "", null, new byte[0])),
                "403 ACCESS_REFUSED - cannot publish to internal exchange 'amq.rabbitmq.trace' in vhost '/' 60.40",
                "internal");
    }

    static void prefetchInOctets(Stage s) throws Exception {
        same(s.closed(() -> s.channel.basicQos(1, 1, false)),
                "540 NOT_IMPLEMENTED - prefetch_size!=0 (1) 60.10", "prefetch in octets");
    }

    static void cancelledByTheBroker(Stage s) throws Exception {
        s.queue();
        Received received = new Received(s.channel);
        s.channel.basicConsume(s.name, false, received);
        s.channel.queueDelete(s.name);
        same(received.next(), "cancelled", "the consumer");
    }

    static void singleActiveConsumer(Stage s) throws Exception {
        s.queue("", Collections.singletonMap("x-single-active-consumer", true));
        Received first = new Received(s.channel);
        Channel other = s.connection.createChannel();
        Received second = new Received(other);
        String tag = s.channel.basicConsume(s.name, true, first);
        other.basicConsume(s.name, true, second);
        s.publish("1");
        same(first.next(), "1 1", "the active one");
        s.channel.basicCancel(tag);
        s.publish("2");
        same(second.next(), "1 2", "its successor");
    }

    static void rpc(Stage s) throws Exception {
        s.queue();
        RpcServer server = new RpcServer(s.connection.createChannel(), s.name) {
            @Override
            public byte[] handleCall(byte[] request, AMQP.BasicProperties reply) {
                return (new String(request) + "!").getBytes();
            }
        };
        Thread thread = new Thread(() -> {
            try {
                server.mainloop();
            } catch (IOException | ShutdownSignalException | ConsumerCancelledException ended) {
                // The connection is closed at the end of the check.
            }
        });
        thread.setDaemon(true);
        thread.start();
        RpcClient client = new RpcClient(s.channel, "", s.name, 20_000);
        same(client.stringCall("hello"), "hello!", "answer");
    }

    static void wrongPassword(Stage s) throws Exception {
        ConnectionFactory wrong = factory.clone();
        wrong.setPassword("wrong");
        try {
            wrong.newConnection();
        } catch (AuthenticationFailureException expected) {
            return;
        }
        throw new AssertionError("let in");
    }

    static void unknownVirtualHost(Stage s) throws Exception {
        ConnectionFactory wrong = factory.clone();
        wrong.setVirtualHost("none");
        try {
            wrong.newConnection();
        } catch (IOException error) {
            ShutdownSignalException signal = (ShutdownSignalException) error.getCause();
            same(((AMQP.Connection.Close) signal.getReason()).getReplyCode(), 530, "reply code");
            return;
        }
        throw new AssertionError("let in");
    }

    static void negotiation(Stage s) throws Exception {
        ConnectionFactory small = factory.clone();
        small.setRequestedFrameMax(8192);
        small.setRequestedChannelMax(3);
        small.setRequestedHeartbeat(1);
        Connection connection = small.newConnection();
        same(connection.getFrameMax() + " " + connection.getChannelMax() + " " + connection.getHeartbeat(), "8192 3 1",
                "negotiated");
        Channel channel = connection.createChannel();
        channel.queueDeclare(s.name, true, false, false, null);
        channel.basicPublish("", s.name, null, new byte[50_000]);
        channel.queueDeclarePassive(s.name);
        same(channel.basicGet(s.name, true).getBody().length, 50_000, "body in frames of 8192");
        connection.close();
    }

    public static void main(String[] arguments) throws Exception {
        factory.setHost(arguments[0]);
        factory.setPort(Integer.parseInt(arguments[1]));
        factory.setAutomaticRecoveryEnabled(false);
        Map<String, Body> checks = new LinkedHashMap<>();
        checks.put("publishAndGet", Check::publishAndGet);
        checks.put("confirms", Check::confirms);
        checks.put("returnsBeforeConfirms", Check::returnsBeforeConfirms);
        checks.put("nacks", Check::nacks);
        checks.put("prefetch", Check::prefetch);
        checks.put("priorities", Check::priorities);
        checks.put("recovered", Check::recovered);
        checks.put("deadLetters", Check::deadLetters);
        checks.put("routing", Check::routing);
        checks.put("transactions", Check::transactions);
        checks.put("refusals", Check::refusals);
        checks.put("prefetchInOctets", Check::prefetchInOctets);
        checks.put("cancelledByTheBroker", Check::cancelledByTheBroker);
        checks.put("singleActiveConsumer", Check::singleActiveConsumer);
        checks.put("rpc", Check::rpc);
        checks.put("wrongPassword", Check::wrongPassword);
        checks.put("unknownVirtualHost", Check::unknownVirtualHost);
        checks.put("negotiation", Check::negotiation);
        int failed = 0;
        for (Map.Entry<String, Body> check : checks.entrySet()) {
            Stage stage = new Stage();
            try {
                check.getValue().run(stage);
                System.out.println("ok " + check.getKey());
            } catch (Exception | AssertionError error) {
                failed++;
                System.out.println("FAILED " + check.getKey() + " " + error);
            }
            stage.end();
        }
        System.out.println((checks.size() - failed) + " of " + checks.size() + " checks passed");
        System.exit(failed == 0 ? 0 : 1);
    }
}
