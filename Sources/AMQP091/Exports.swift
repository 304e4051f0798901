// SPDX-License-Identifier: Apache-2.0

// The values of the wire that applications meet: FieldTable, BasicProperties, ReplyCode, DeliveryTag, ChannelNumber.
// Re-exported, so that one import is enough.
@_exported public import AMQP091Wire
