// SPDX-License-Identifier: Apache-2.0

// AMQPOversizedDeliveryPolicy: what a connection does about a message it cannot hold. Its body is read past in any case,
// so that neither the connection nor any other delivery suffers.

/// What becomes of a delivery whose body is larger than ``AMQPClientConfiguration/maximumBodySize``.
public enum AMQPOversizedDeliveryPolicy: Hashable, Sendable {
    /// It is rejected without requeue (`basic.reject`), so that the queue drops or dead-letters it, and a warning is logged.
    ///
    /// The application does not see it; `basic.get` throws `.bodyTooLarge`. With automatic acknowledgement the broker has
    /// forgotten it already.
    case reject
    /// The application gets it without its body, with ``AMQPDelivery/bodyError``, and settles it.
    case deliver
}
