// SPDX-License-Identifier: Apache-2.0
// CEcho: the yardstick and the load of net-bench: an echo server on raw epoll, a client that drives any echo server, and
// what the kernel and malloc know about a process. One thread each.
#ifndef CECHO_H
#define CECHO_H

#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

/// Binds 127.0.0.1 on a free port and listens. Returns the descriptor; the port through `port`.
int cecho_listen(uint16_t *port);

/// Echoes until the process ends: edge-triggered, one read per event, stop on a short read.
void cecho_serve(int listener);

typedef struct {
    uint64_t round_trips;
    uint64_t nanoseconds;
    uint64_t errors;
} cecho_result;

/// Keeps `connections` connections busy for a time: each sends `size` octets, waits for all of them, sends again.
cecho_result cecho_load(uint16_t port, int connections, size_t size, uint64_t milliseconds);

/// Connects, sends an octet, gets it back, resets; one after the other.
cecho_result cecho_connects(uint16_t port, uint64_t milliseconds);

/// Opens connections and keeps them, each after one octet there and back. Returns how many stand; their descriptors
/// through `descriptors`, -1 for those that failed.
int cecho_hold(uint16_t port, int connections, int *descriptors);

/// Closes descriptors that are not -1.
void cecho_release(const int *descriptors, int count);

/// CPU time of a process so far, or 0.
uint64_t cecho_cpu(int process);

/// Octets malloc has handed out in this process.
size_t cecho_heap(void);

/// Starts this program again as `net-bench serve NAME`; its standard input and output are pipes. Returns its number, or
/// -1.
int cecho_start(const char *name, int *input, int *output);

/// Ends a process and waits for it.
void cecho_stop(int process);

#pragma clang assume_nonnull end

#endif
