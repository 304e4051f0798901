// SPDX-License-Identifier: Apache-2.0

// What amqp091-go observes of a broker: check HOST PORT.
// Each check fails with what differs. The same file runs against RabbitMQ and the in-process broker.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const patience = 20 * time.Second

type stage struct {
	uri        string
	connection *amqp.Connection
	channel    *amqp.Channel
	name       string
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func same(found, expected any, what string) {
	if !reflect.DeepEqual(found, expected) {
		panic(fmt.Errorf("%s: %v, not %v", what, found, expected))
	}
}

func next[T any](c <-chan T, what string) T {
	select {
	case value, ok := <-c:
		if !ok {
			panic(fmt.Errorf("%s: the channel was closed", what))
		}
		return value
	case <-time.After(patience):
		panic(fmt.Errorf("%s: nothing came", what))
	}
}

func (s *stage) queue(suffix string, arguments amqp.Table) {
	must(s.channel.QueueDeclare(s.name+suffix, true, false, false, false, arguments))
}

func (s *stage) publish(body string) {
	check(s.channel.Publish("", s.name, false, false, amqp.Publishing{Body: []byte(body)}))
}

func (s *stage) get() string {
	delivery, ok, err := s.channel.Get(s.name, true)
	check(err)
	if !ok {
		return "empty"
	}
	return string(delivery.Body)
}

func (s *stage) depth() int {
	return must(s.channel.QueueInspect(s.name)).Messages
}

// closed returns code and text of the close that body brings; a new channel follows.
func (s *stage) closed(body func() error) string {
	closes := s.channel.NotifyClose(make(chan *amqp.Error, 1))
	_ = body()
	reason := next(closes, "a close")
	s.channel = must(s.connection.Channel())
	return fmt.Sprintf("%d %s", reason.Code, reason.Reason)
}

func publishAndGet(s *stage) {
	s.queue("", nil)
	headers := amqp.Table{
		"bool": true, "int8": int8(-5), "byte": byte(200), "int16": int16(-300), "int32": int32(70000), "int64": int64(1) << 40,
		"float32": float32(1.5), "float64": 2.5, "decimal": amqp.Decimal{Scale: 2, Value: 1234}, "string": "ä",
		"bytes": []byte{0xff, 0}, "time": time.Unix(1700000000, 0), "table": amqp.Table{"x": int32(1)}, "nil": nil,
		"list": []any{int32(1), "two"},
	}
	message := amqp.Publishing{
		Headers: headers, ContentType: "text/plain", ContentEncoding: "utf-8", DeliveryMode: 2, Priority: 3,
		CorrelationId: "c", ReplyTo: "r", Expiration: "60000", MessageId: "m", Timestamp: time.Unix(1700000000, 0), Type: "t",
		UserId: "guest", AppId: "a", Body: []byte("body"),
	}
	check(s.channel.Publish("", s.name, false, false, message))
	s.publish("")
	large := bytes.Repeat([]byte{7}, 1000000)
	s.publish(string(large))
	s.depth()
	got, ok, err := s.channel.Get(s.name, false)
	check(err)
	same(ok, true, "a message")
	same(string(got.Body), "body", "body")
	same(got.Headers, headers, "headers")
	same([]any{got.ContentType, got.ContentEncoding, got.DeliveryMode, got.Priority, got.CorrelationId, got.ReplyTo,
		got.Expiration, got.MessageId, got.Timestamp, got.Type, got.UserId, got.AppId},
		[]any{"text/plain", "utf-8", byte(2), byte(3), "c", "r", "60000", "m", time.Unix(1700000000, 0), "t", "guest", "a"},
		"properties")
	same([]any{got.Exchange, got.RoutingKey, got.Redelivered, got.MessageCount}, []any{"", s.name, false, uint32(2)}, "get-ok")
	check(got.Ack(false))
	same(s.get(), "", "empty body")
	same(s.get() == string(large), true, "large body")
	same(s.get(), "empty", "queue")
}

func confirmsAndReturns(s *stage) {
	s.queue("", nil)
	check(s.channel.Confirm(false))
	confirms := s.channel.NotifyPublish(make(chan amqp.Confirmation, 1000))
	returns := s.channel.NotifyReturn(make(chan amqp.Return, 10))
	for range [500]int{} {
		s.publish("m")
	}
	for tag := uint64(1); tag <= 500; tag++ {
		same(next(confirms, "a confirm"), amqp.Confirmation{DeliveryTag: tag, Ack: true}, "confirm")
	}
	same(s.depth(), 500, "messages")
	check(s.channel.Publish("", s.name+".none", true, false, amqp.Publishing{Body: []byte("lost")}))
	same(next(confirms, "a confirm"), amqp.Confirmation{DeliveryTag: 501, Ack: true}, "confirm of what was returned")
	select {
	case returned := <-returns:
		same([]any{returned.ReplyCode, returned.ReplyText, returned.RoutingKey, string(returned.Body)},
			[]any{uint16(312), "NO_ROUTE", s.name + ".none", "lost"}, "return")
	default:
		panic(errors.New("the confirm came before the return"))
	}
	same(must(s.channel.QueuePurge(s.name, false)), 500, "purged")
}

func nacks(s *stage) {
	s.queue("", amqp.Table{"x-max-length": int32(1), "x-overflow": "reject-publish"})
	check(s.channel.Confirm(false))
	confirms := s.channel.NotifyPublish(make(chan amqp.Confirmation, 10))
	s.publish("1")
	same(next(confirms, "a confirm").Ack, true, "first")
	s.publish("2")
	same(next(confirms, "a confirm").Ack, false, "second")
	same(s.get(), "1", "what is there")
}

func prefetchAndSettling(s *stage) {
	s.queue("", nil)
	for number := 0; number < 5; number++ {
		s.publish(fmt.Sprint(number))
	}
	check(s.channel.Qos(2, 0, false))
	deliveries := must(s.channel.Consume(s.name, "c", false, false, false, false, nil))
	take := func(expected string) amqp.Delivery {
		delivery := next(deliveries, expected)
		same(fmt.Sprint(delivery.DeliveryTag, " ", delivery.Redelivered, " ", string(delivery.Body)), expected, "delivery")
		return delivery
	}
	take("1 false 0")
	second := take("2 false 1")
	same(s.depth(), 3, "held back")
	same(len(deliveries), 0, "more than the prefetch")
	check(second.Ack(true))
	third := take("3 false 2")
	fourth := take("4 false 3")
	check(third.Nack(false, false))
	take("5 false 4")
	check(fourth.Reject(true))
	take("6 true 3")
	check(s.channel.Cancel("c", false))
	check(s.channel.Nack(0, true, true))
	same(s.get()+s.get(), "34", "in the order they came")
}

func poisonMessage(s *stage) {
	s.queue(".2", nil)
	s.queue("", amqp.Table{"x-queue-type": "quorum", "x-delivery-limit": int32(2), "x-dead-letter-exchange": "",
		"x-dead-letter-routing-key": s.name + ".2"})
	s.publish("m")
	deliveries := must(s.channel.Consume(s.name, "c", false, false, false, false, nil))
	for count := int64(0); count <= 2; count++ {
		delivery := next(deliveries, "a delivery")
		found, _ := delivery.Headers["x-delivery-count"].(int64)
		same(found, count, "x-delivery-count")
		check(delivery.Reject(true))
	}
	dead := next(must(s.channel.Consume(s.name+".2", "d", true, false, false, false, nil)), "a dead letter")
	death := dead.Headers["x-death"].([]any)[0].(amqp.Table)
	same(death["reason"], "delivery_limit", "reason")
	must(s.channel.QueueDelete(s.name+".2", false, false, false))
}

func refusals(s *stage) {
	s.queue("", nil)
	same(s.closed(func() error { _, err := s.channel.QueueInspect(s.name + ".2"); return err }),
		"404 NOT_FOUND - no queue '"+s.name+".2' in vhost '/'", "missing queue")
	same(s.closed(func() error { _, err := s.channel.QueueDeclare(s.name, true, true, false, false, nil); return err }),
		"406 PRECONDITION_FAILED - inequivalent arg 'auto_delete' for queue '"+s.name+
			"' in vhost '/': received 'true' but current is 'false'", "auto-delete")
	same(s.closed(func() error { return s.channel.Ack(99, false) }),
		"406 PRECONDITION_FAILED - unknown delivery tag 99", "ack")
	same(s.closed(func() error { return s.channel.ExchangeDeclare("amq.mine", "direct", false, false, false, false, nil) }),
		"403 ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'", "reserved name")
}

func cancelledByTheBroker(s *stage) {
	s.queue("", nil)
	cancels := s.channel.NotifyCancel(make(chan string, 1))
	must(s.channel.Consume(s.name, "c", false, false, false, false, nil))
	must(s.channel.QueueDelete(s.name, false, false, false))
	same(next(cancels, "a cancel"), "c", "consumer")
}

func transactions(s *stage) {
	s.queue("", nil)
	check(s.channel.Tx())
	s.publish("1")
	check(s.channel.TxRollback())
	s.publish("2")
	check(s.channel.TxCommit())
	same(s.get()+s.get(), "2empty", "committed")
	check(s.channel.TxCommit())
}

func wrongPassword(s *stage) {
	_, err := amqp.Dial("amqp://guest:wrong@" + s.uri)
	var refused *amqp.Error
	same(errors.As(err, &refused), true, fmt.Sprint(err))
	same(refused.Code, 403, "reply code")
}

func main() {
	checks := []struct {
		name string
		run  func(*stage)
	}{
		{"publishAndGet", publishAndGet}, {"confirmsAndReturns", confirmsAndReturns}, {"nacks", nacks},
		{"poisonMessage", poisonMessage},
		{"prefetchAndSettling", prefetchAndSettling}, {"refusals", refusals}, {"cancelledByTheBroker", cancelledByTheBroker},
		{"transactions", transactions}, {"wrongPassword", wrongPassword},
	}
	failed := 0
	for _, row := range checks {
		uri := os.Args[1] + ":" + os.Args[2]
		connection := must(amqp.Dial("amqp://guest:guest@" + uri))
		s := &stage{uri, connection, must(connection.Channel()), fmt.Sprintf("go-%d", time.Now().UnixNano())}
		func() {
			defer func() {
				if reason := recover(); reason != nil {
					failed++
					fmt.Println("FAILED", row.name, reason)
					return
				}
				fmt.Println("ok", row.name)
			}()
			row.run(s)
		}()
		if channel, err := connection.Channel(); err == nil {
			_, _ = channel.QueueDelete(s.name, false, false, false)
			_ = connection.Close()
		}
	}
	fmt.Println(len(checks)-failed, "of", len(checks), "checks passed")
	if failed > 0 {
		os.Exit(1)
	}
}
