// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

// Handling of frames. An invalid one closes the smallest scope that the specification allows,
// with RabbitMQ's reply code.

extension BrokerConnection {
    func received(_ frame: DecodedFrame, _ payload: RawSpan) {
        let number = frame.channel.rawValue
        switch frame.type {
        case .heartbeat: return
        case .method:
            let id = MethodID(
                classID: payload.unsafeLoadUnaligned(fromByteOffset: 0, as: UInt16.self).bigEndian,
                methodID: payload.unsafeLoadUnaligned(fromByteOffset: 2, as: UInt16.self).bigEndian
            )
            let method: Method
            do throws(WireError) {
                method = try Method.decode(payload)
            } catch {
                guard self.phase != .closing else { return }
                if case .unknownMethod = error.kind {
                    return self.close(.commandInvalid, Refusal(.commandInvalid, "\(error)").text, id)
                }
                return self.close(.frameError, Refusal(.frameError, "cannot decode: \(error)").text, id)
            }
            self.obey(method, on: number)
        case .header, .body:
            guard self.phase == .running else { return }
            guard let channel = self.channels[number] else {
                return self.refuse(Refusal(.channelError, "expected 'channel.open'"), nil, 0)
            }
            do throws(Refusal) {
                try channel.receivedContent(frame.type, payload)
            } catch {
                self.refuse(error, channel.contentMethod, number)
            }
        }
    }

    /// Performs a method, or closes the channel or connection for it.
    func perform(_ method: Method, on number: UInt16) {
        do throws(Refusal) {
            if number == 0 { try self.receivedOnConnection(method) } else { try self.received(method, number) }
        } catch {
            self.refuse(error, method.id, number)
        }
    }

    private func received(_ method: Method, _ number: UInt16) throws(Refusal) {
        guard self.phase == .running else {
            if self.phase == .closing || self.phase == .ended { return }
            throw Refusal(.channelError, "unexpected method in a connection that is not open")
        }
        if let channel = self.channels[number] { return try channel.received(method) }
        guard case .channelOpen = method else { throw Refusal(.channelError, "expected 'channel.open'") }
        guard self.channels.count < self.channelMaximum else {
            throw Refusal(
                .notAllowed,
                "number of channels opened (\(self.channels.count)) has reached the negotiated channel_max "
                    + "(\(self.channelMaximum))"
            )
        }
        guard let host = self.host else { return }
        self.channels[number] = BrokerChannel(number: number, connection: self, host: host)
        self.send(.channelOpenOk(.init()), on: number)
    }

    /// Closes the channel or connection, depending on the code.
    func refuse(_ refusal: Refusal, _ method: MethodID?, _ number: UInt16) {
        if !refusal.code.isHard, let channel = self.channels[number] {
            channel.close(refusal, method)
        } else {
            self.close(refusal.code, refusal.text, method)
        }
    }

    /// Handles malformed octets.
    func received(_ error: WireError) {
        guard self.phase != .closing, self.phase != .ended else { return }
        // RabbitMQ drops a link that is not logged in without a reply.
        if self.phase == .startOk, case .frameTooLarge = error.kind { return self.reset() }
        let code: ReplyCode
        if case .invalidHeartbeat = error.kind { code = .frameError } else { code = error.replyCode }
        self.close(code, Refusal(code, "\(error)").text, nil)
        // No close-ok can be recognised now: wait for the end of the stream.
        self.finish()
    }
}
