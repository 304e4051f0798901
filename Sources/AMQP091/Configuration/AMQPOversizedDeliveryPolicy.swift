// SPDX-License-Identifier: Apache-2.0

// AMQPOversizedDeliveryPolicy: the treatment of a message with a body over the limit. The body is discarded in any case,
// so that neither the connection nor any other delivery is affected.

/// The treatment of a delivery whose body is larger than ``AMQPClientConfiguration/maximumBodySize``.
public enum AMQPOversizedDeliveryPolicy: Hashable, Sendable {
    /// It is rejected without requeue (`basic.reject`), so that the queue drops or dead-letters it, and a warning is logged.
    ///
    /// The application does not get it; `basic.get` throws `.bodyTooLarge`. With automatic acknowledgement the broker has
    /// already deleted it.
    case reject
    /// The application gets it with ``AMQPDelivery/bodyError`` instead of a body, and settles it.
    case deliver
}
