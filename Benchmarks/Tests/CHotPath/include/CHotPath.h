// SPDX-License-Identifier: Apache-2.0
// CHotPath: what the counts of the hot paths are taken with, in C because it must not allocate, nor be optimised with
// the code it watches: counters of allocations and system calls, and peers that cost neither.
// The counters are the functions themselves: malloc, syscall and the others are defined here, count, and go on to
// the C library's. They count for the whole process, but for threads that ask to be left out.
#ifndef CHOTPATH_H
#define CHOTPATH_H

#include <stdint.h>

#pragma clang assume_nonnull begin

/// What the process has done since `chotpath_reset`.
struct chotpath_counts {
    /// Calls of malloc, calloc, realloc and the aligned forms.
    uint64_t allocations;
    /// Calls of sendmsg, and of syscall, by which the library sends, receives and waits.
    uint64_t system_calls;
    /// Those that receive.
    uint64_t reads;
};

/// Sets the counters to zero.
void chotpath_reset(void);

/// The counters.
struct chotpath_counts chotpath_read(void);

/// Starts an AMQP peer for one connection on a thread of its own, which is not counted. It answers what a client has to
/// ask, confirms publishes in batches, and sends `deliveries` messages of `size` octets to the first consumer.
///
/// Returns its port on the loopback address, or -errno.
int chotpath_peer(uint64_t deliveries, uint32_t size);

/// Connects to a port of the loopback address, again and again; sends one octet over each connection and waits for
/// `answer` octets. The descriptors stay open.
///
/// Returns 0, or -errno.
int chotpath_hold(uint16_t port, int connections, int answer);

/// The octets that malloc has handed out, as mallinfo2(3) counts them.
int64_t chotpath_heap(void);

#pragma clang assume_nonnull end

#endif
