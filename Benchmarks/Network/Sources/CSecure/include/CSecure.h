// SPDX-License-Identifier: Apache-2.0
// CSecure: the yardstick and the peer of net-bench's TLS part: OpenSSL on blocking sockets, as `openssl s_server` and
// `openssl s_time` use it. One thread each, one connection at a time.
#ifndef CSECURE_H
#define CSECURE_H

#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

/// Takes one connection after the other. The first octet says what to do until the client closes: 's' sends blocks of
/// `size` octets, anything else reads. Ends the process when the files cannot be used.
void csecure_serve(int listener, const char *chain, const char *key, size_t size);

typedef struct {
    uint64_t octets;
    uint64_t nanoseconds;
    /// The name of the cipher.
    char cipher[64];
    /// 0, or the step that failed.
    int error;
} csecure_result;

/// Connects, and reads what the server sends, or sends blocks of `size` octets, for a time.
csecure_result csecure_load(uint16_t port, int server_sends, size_t size, uint64_t milliseconds);

#pragma clang assume_nonnull end

#endif
