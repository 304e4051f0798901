// SPDX-License-Identifier: Apache-2.0
// The counters: functions of the C library by their own names, which a program may define (malloc(3), "Replacing malloc").
#define _GNU_SOURCE
#include "CHotPath.h"
#include "internal.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>

static _Atomic uint64_t allocations, system_calls, reads;
static __thread int is_left_out;

void chotpath_leave_out_thread(void) { is_left_out = 1; }

void chotpath_reset(void) {
    allocations = 0;
    system_calls = 0;
    reads = 0;
}

struct chotpath_counts chotpath_read(void) {
    return (struct chotpath_counts){allocations, system_calls, reads};
}

static void count(_Atomic uint64_t *counter) {
    if (!is_left_out) atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

void *malloc(size_t size) {
    count(&allocations);
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size) {
    count(&allocations);
    return __libc_calloc(number, size);
}

void *realloc(void *old, size_t size) {
    count(&allocations);
    return __libc_realloc(old, size);
}

void *memalign(size_t alignment, size_t size) {
    count(&allocations);
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void **result, size_t alignment, size_t size) {
    void *memory = memalign(alignment, size);
    if (!memory) return ENOMEM;
    *result = memory;
    return 0;
}

// Each looks its successor up once; two threads that do so at the same time find the same.
#define NEXT(name) \
    static __typeof__(&name) next; \
    if (!next) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

ssize_t sendmsg(int descriptor, const struct msghdr *message, int flags) {
    NEXT(sendmsg);
    count(&system_calls);
    return next(descriptor, message, flags);
}

extern long syscall(long, ...);

long syscall(long number, ...) {
    NEXT(syscall);
    count(&system_calls);
    if (number == SYS_recvfrom) count(&reads);
    long arguments[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++) arguments[i] = va_arg(list, long);
    va_end(list);
    return next(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
}
