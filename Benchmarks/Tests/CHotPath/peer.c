// SPDX-License-Identifier: Apache-2.0
// The peer: just enough of an AMQP 0-9-1 broker to keep a client busy, without allocating: it counts publishes and
// drops them, confirms once per read, and sends one delivery over and over with other tags.
#include "CHotPath.h"
#include "internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct {
    int listener, link;
    uint64_t deliveries;
    uint32_t size;
    int confirms;
    uint64_t published, confirmed;
    uint8_t in[1 << 20], out[1 << 18];
    size_t filled;
} peer;

static uint8_t *put(uint8_t *at, uint64_t value, int octets) {
    for (int i = octets - 1; i >= 0; i--) *at++ = (uint8_t)(value >> (8 * i));
    return at;
}

static uint32_t get(const uint8_t *at, int octets) {
    uint32_t value = 0;
    for (int i = 0; i < octets; i++) value = value << 8 | at[i];
    return value;
}

static void write_all(const uint8_t *octets, size_t count) {
    while (count > 0) {
        ssize_t taken = send(peer.link, octets, count, MSG_NOSIGNAL);
        if (taken <= 0) return;
        octets += taken;
        count -= (size_t)taken;
    }
}

/// One method frame with these arguments.
static uint8_t *method(uint8_t *at, uint16_t channel, uint32_t id, const void *arguments, uint32_t count) {
    at = put(put(put(put(at, 1, 1), channel, 2), 4 + count, 4), id, 4);
    memcpy(at, arguments, count);
    return put(at + count, 0xCE, 1);
}

static void answer(uint16_t channel, uint32_t id, const void *arguments, uint32_t count) {
    write_all(peer.out, (size_t)(method(peer.out, channel, id, arguments, count) - peer.out));
}

/// Sends all deliveries, as many to a write as the buffer holds.
static void deliver_all(uint16_t channel, const uint8_t *tag) {
    uint8_t arguments[300], *end = arguments;
    memcpy(end, tag, tag[0] + 1u);
    end += tag[0] + 1;
    uint32_t number = (uint32_t)(end - arguments);
    end = put(put(put(end, 0, 8), 0, 1), 0, 1);   // delivery tag, redelivered, exchange
    end = put(end, 1, 1);
    *end++ = 'q';                                 // routing key
    uint8_t *at = method(peer.out, channel, 60 << 16 | 60, arguments, (uint32_t)(end - arguments));
    at = put(put(put(put(put(put(at, 2, 1), channel, 2), 14, 4), 60u << 16, 4), peer.size, 8), 0, 2);
    at = put(put(put(put(at, 0xCE, 1), 3, 1), channel, 2), peer.size, 4);
    memset(at, 'x', peer.size);
    at = put(at + peer.size, 0xCE, 1);
    size_t message = (size_t)(at - peer.out), slots = sizeof peer.out / message;
    for (size_t i = 1; i < slots; i++) memcpy(peer.out + i * message, peer.out, message);
    for (uint64_t sent = 0; sent < peer.deliveries;) {
        uint64_t now = peer.deliveries - sent < slots ? peer.deliveries - sent : slots;
        for (uint64_t i = 0; i < now; i++) put(peer.out + i * message + 11 + number, sent + i + 1, 8);
        write_all(peer.out, now * message);
        sent += now;
    }
}

/// Answers one method; false at the end of the connection.
static int received(uint16_t channel, uint32_t id, const uint8_t *arguments) {
    switch (id) {
    case 10 << 16 | 11: answer(0, 10 << 16 | 30, "\x07\xff\0\x02\0\0\0\0", 8); break;   // tune
    case 10 << 16 | 40: answer(0, 10 << 16 | 41, "\0", 1); break;
    case 20 << 16 | 10: answer(channel, 20 << 16 | 11, "\0\0\0\0", 4); break;
    case 20 << 16 | 40: answer(channel, 20 << 16 | 41, "", 0); break;
    case 60 << 16 | 10: answer(channel, 60 << 16 | 11, "", 0); break;
    case 60 << 16 | 20: {
        const uint8_t *tag = arguments + 2 + arguments[2] + 1;
        answer(channel, 60 << 16 | 21, tag, tag[0] + 1u);
        deliver_all(channel, tag);
        break;
    }
    case 60 << 16 | 30: answer(channel, 60 << 16 | 31, arguments, arguments[0] + 1u); break;
    case 60 << 16 | 40: peer.published++; break;
    case 85 << 16 | 10:
        peer.confirms = 1;
        answer(channel, 85 << 16 | 11, "", 0);
        break;
    case 10 << 16 | 50: answer(0, 10 << 16 | 51, "", 0); return 0;
    default: break;
    }
    return 1;
}

static void *serve(void *unused) {
    (void)unused;
    chotpath_leave_out_thread();
    peer.link = accept(peer.listener, NULL, NULL);
    close(peer.listener);
    for (size_t header = 0; header < 8;) {
        ssize_t count = recv(peer.link, peer.in, 8 - header, 0);
        if (count <= 0) return NULL;
        header += (size_t)count;
    }
    answer(0, 10 << 16 | 10, "\0\x09\0\0\0\0\0\0\0\x05PLAIN\0\0\0\x05" "en_US", 24);   // start
    for (int goes_on = 1; goes_on;) {
        ssize_t count = recv(peer.link, peer.in + peer.filled, sizeof peer.in - peer.filled, 0);
        if (count <= 0) break;
        peer.filled += (size_t)count;
        size_t at = 0;
        uint16_t channel = 0;
        while (goes_on && peer.filled - at >= 8) {
            uint32_t size = get(peer.in + at + 3, 4);
            if (peer.filled - at < size + 8) break;
            if (peer.in[at] == 1) {
                channel = (uint16_t)get(peer.in + at + 1, 2);
                goes_on = received(channel, get(peer.in + at + 7, 4), peer.in + at + 11);
            }
            at += size + 8;
        }
        memmove(peer.in, peer.in + at, peer.filled - at);
        peer.filled -= at;
        if (peer.confirms && peer.confirmed < peer.published) {
            uint8_t arguments[9];
            put(put(arguments, peer.published, 8), 1, 1);
            peer.confirmed = peer.published;
            answer(channel, 60 << 16 | 80, arguments, 9);
        }
    }
    close(peer.link);
    return NULL;
}

int chotpath_peer(uint64_t deliveries, uint32_t size) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    pthread_t thread;
    peer.deliveries = deliveries;
    peer.size = size;
    peer.listener = socket(AF_INET, SOCK_STREAM, 0);
    if (peer.listener < 0 || bind(peer.listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(peer.listener, 1) < 0 || getsockname(peer.listener, (struct sockaddr *)&address, &length) < 0)
        return -errno;
    int code = pthread_create(&thread, NULL, serve, NULL);
    if (code) return -code;
    pthread_detach(thread);
    return ntohs(address.sin_port);
}
