// SPDX-License-Identifier: Apache-2.0
// CEpoll: the Linux calls the event loop makes and Swift cannot spell itself.
// One function, one system call: no loop, allocation, state or policy. Returns the result, or -errno.
// Only small system headers here: a broad one, or _GNU_SOURCE, makes this module disagree with Swift's Glibc module,
// and a type that both modules declare belongs to either by chance. So the socket calls stand in CEpoll.c.
#ifndef CEPOLL_H
#define CEPOLL_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#pragma clang assume_nonnull begin

/// epoll_create1(2), close-on-exec. C because the Glibc module has no sys/epoll.h.
static inline int cepoll_create(void) {
    int descriptor = epoll_create1(EPOLL_CLOEXEC);
    return descriptor < 0 ? -errno : descriptor;
}

/// epoll_pwait(2) with the signals as they are. `timeout_ms`: -1 blocks, 0 polls. Returns the number of events, or
/// -errno. In CEpoll.c, as it is called by its number.
int cepoll_wait(int epfd, struct epoll_event *events, int capacity, int timeout_ms);

/// epoll_pwait2(2) with a timeout in nanoseconds. -ENOSYS before Linux 5.11. In CEpoll.c: not every C library has it.
int cepoll_wait_nanoseconds(int epfd, struct epoll_event *events, int capacity, uint64_t timeout_ns);

/// timerfd_create(2) of the monotonic clock, non-blocking and close-on-exec.
int cepoll_timer(void);

/// timerfd_settime(2): once, at `time_ns` of the monotonic clock, greater than 0; an edge for who watches it.
int cepoll_timer_set(int descriptor, uint64_t time_ns);

/// prctl(2) PR_SET_TIMERSLACK of the calling thread: how late the kernel may be with its timeouts.
int cepoll_set_timer_slack(unsigned long nanoseconds);

/// epoll_ctl(2), EPOLL_CTL_ADD: in, out, urgent data and peer close, edge-triggered, reported with `token`.
static inline int cepoll_add(int epfd, int descriptor, uint64_t token) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLET, .data = {.u64 = token}};
    return epoll_ctl(epfd, EPOLL_CTL_ADD, descriptor, &event) < 0 ? -errno : 0;
}

/// epoll_ctl(2), EPOLL_CTL_MOD of a descriptor that was added: with `reading` 0, what can be read is not reported.
static inline int cepoll_modify(int epfd, int descriptor, uint64_t token, int reading) {
    // Without EPOLLPRI too: sockets report any octets with it, which would wake the loop for room to write.
    struct epoll_event event = {.events = EPOLLOUT | EPOLLRDHUP | EPOLLET, .data = {.u64 = token}};
    if (reading) event.events |= EPOLLIN | EPOLLPRI;
    return epoll_ctl(epfd, EPOLL_CTL_MOD, descriptor, &event) < 0 ? -errno : 0;
}

/// epoll_ctl(2), EPOLL_CTL_DEL.
static inline int cepoll_delete(int epfd, int descriptor) {
    struct epoll_event event = {0};
    return epoll_ctl(epfd, EPOLL_CTL_DEL, descriptor, &event) < 0 ? -errno : 0;
}

/// The token given to `cepoll_add`. C because the struct is packed on x86-64 and a union.
static inline uint64_t cepoll_event_token(const struct epoll_event *event) { return event->data.u64; }

/// The readiness bits of an event: EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLHUP, EPOLLERR.
static inline uint32_t cepoll_event_bits(const struct epoll_event *event) { return event->events; }

enum {
    cepoll_in = EPOLLIN,
    cepoll_out = EPOLLOUT,
    cepoll_pri = EPOLLPRI,
    cepoll_rdhup = EPOLLRDHUP,
    cepoll_hup = EPOLLHUP,
    cepoll_err = EPOLLERR,
};

/// eventfd(2), non-blocking and close-on-exec.
static inline int cepoll_eventfd(void) {
    int descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return descriptor < 0 ? -errno : descriptor;
}

/// eventfd_write(3) of one: an edge for the epoll instance that watches it.
static inline int cepoll_eventfd_signal(int descriptor) { return eventfd_write(descriptor, 1) < 0 ? -errno : 0; }

/// recv(2), never blocking. Returns the octets read, 0 at the end of the stream, or -errno.
ptrdiff_t cepoll_recv(int descriptor, void *buffer, size_t capacity);

/// recvmsg(2), as cepoll_recv; `is_cut` is 1 if descriptors came along, which the kernel has closed: such a read ends
/// before the octets that follow. unix(7), SCM_RIGHTS.
ptrdiff_t cepoll_recv_message(int descriptor, void *buffer, size_t capacity, int *is_cut);

/// send(2), never blocking, never raising SIGPIPE. Returns the octets taken, or -errno.
ptrdiff_t cepoll_send(int descriptor, const void *octets, size_t count);

struct iovec;

/// sendmsg(2) of a vector, never blocking, never raising SIGPIPE. Returns the octets taken, or -errno.
ptrdiff_t cepoll_send_vectors(int descriptor, const struct iovec *vectors, size_t count);

/// socket(2): a stream socket, non-blocking and close-on-exec.
int cepoll_stream_socket(int family);

/// socketpair(2): two connected Unix stream sockets, non-blocking and close-on-exec.
int cepoll_socketpair(int *descriptors);

/// ioctl(2) SIOCOUTQ: octets sent that the peer's side has not taken yet. Returns the number, or -errno.
int cepoll_unsent(int descriptor);

/// getsockopt(2) TCP_INFO: 1 when the TCP connection is in state CLOSE, as after a reset; else, and for other sockets, 0.
int cepoll_tcp_is_closed(int descriptor);

/// connect(2). -EINPROGRESS is the usual answer of a non-blocking socket.
int cepoll_connect(int descriptor, const void *address, unsigned length);

/// bind(2).
int cepoll_bind(int descriptor, const void *address, unsigned length);

/// listen(2).
int cepoll_listen(int descriptor, int backlog);

/// shutdown(2) of the sending half.
int cepoll_shutdown_write(int descriptor);

/// shutdown(2) of both halves.
int cepoll_shutdown_both(int descriptor);

/// getsockname(2).
int cepoll_local_address(int descriptor, void *address, unsigned *length);

/// getpeername(2).
int cepoll_peer_address(int descriptor, void *address, unsigned *length);

/// getsockopt(2) SO_DOMAIN: the address family. Returns it, or -errno.
int cepoll_family(int descriptor);

/// getsockopt(2) SO_ERROR: takes the pending error. Returns it as a positive number, or -errno of the call.
int cepoll_pending_error(int descriptor);

/// setsockopt(2) SO_SNDBUF, in octets; the kernel doubles it.
int cepoll_set_send_buffer(int descriptor, int octets);

/// setsockopt(2) SO_RCVBUF, in octets; the kernel doubles it.
int cepoll_set_receive_buffer(int descriptor, int octets);

/// setsockopt(2) SO_KEEPALIVE.
int cepoll_set_keep_alive(int descriptor, int enabled);

/// setsockopt(2) TCP_KEEPIDLE, TCP_KEEPINTVL (seconds) and TCP_KEEPCNT.
int cepoll_set_keep_alive_times(int descriptor, int idle, int interval, int count);

/// setsockopt(2) SO_REUSEPORT.
int cepoll_set_reuse_port(int descriptor, int enabled);

/// setsockopt(2) TCP_QUICKACK: holds for a while only, tcp(7).
int cepoll_set_quick_ack(int descriptor, int enabled);

/// getsockopt(2) SO_PEERCRED of a Unix socket, unix(7).
int cepoll_peer_credentials(int descriptor, int *process, unsigned *user, unsigned *group);

/// open(2) of /dev/null, close-on-exec: a descriptor kept in reserve.
int cepoll_open_null(void);

/// setsockopt(2) SO_REUSEADDR.
int cepoll_set_reuse_address(int descriptor, int enabled);

/// setsockopt(2) SO_LINGER with a time of zero: close(2) then sends a reset.
int cepoll_set_linger_zero(int descriptor);

/// accept4(2), non-blocking and close-on-exec. In CEpoll.c: it needs _GNU_SOURCE.
int cepoll_accept(int descriptor);

/// close(2). In CEpoll.c: unistd.h is too broad for this header. EINTR has closed the descriptor on Linux.
int cepoll_close(int descriptor);

/// setsockopt(2) TCP_NODELAY. In CEpoll.c: netinet/tcp.h is too broad for this header.
int cepoll_set_no_delay(int descriptor, int enabled);

/// setsockopt(2) TCP_USER_TIMEOUT, in milliseconds; 0 is the system's default.
int cepoll_set_user_timeout(int descriptor, unsigned milliseconds);

/// pthread_setname_np(3) of the calling thread, at most 15 octets. In CEpoll.c: it needs _GNU_SOURCE.
int cepoll_name_thread(const char *name);

/// futex(2), FUTEX_WAIT_PRIVATE: sleeps while the 32 bits at `word` are `value`. Returns 0, or -errno: -EAGAIN when they
/// are not, -EINTR.
int cepoll_futex_wait(const void *word, uint32_t value);

/// futex(2), FUTEX_WAKE_PRIVATE: wakes one thread that sleeps on `word`. Returns how many, or -errno.
int cepoll_futex_wake(const void *word);

/// Work of the calling thread since `cepoll_renew`; a variable of the thread, no call.
unsigned cepoll_spent(void);
void cepoll_spend(unsigned units);
void cepoll_renew(void);

/// The loop that runs on the calling thread; a variable of the thread, no call.
const void *_Nullable cepoll_current_loop(void);
void cepoll_set_current_loop(const void *_Nullable loop);

// The simulation that the calling thread runs, and its clock; NULL on every other thread. The caller keeps both.
const void *_Nullable cepoll_simulation(void);
void cepoll_set_simulation(const void *_Nullable context, const uint64_t *_Nullable nanoseconds);

// Nanoseconds of CLOCK_MONOTONIC; on a thread that runs a simulation, of its clock.
uint64_t cepoll_now(void);

// Annotations for the thread sanitizer, empty in other builds. Swift sees it with `-Xcc -fsanitize=thread`.
#if __has_feature(thread_sanitizer)
enum { cepoll_is_thread_sanitized = 1 };
void __tsan_mutex_create(void *address, unsigned flags);
void __tsan_mutex_destroy(void *address, unsigned flags);
void __tsan_mutex_pre_lock(void *address, unsigned flags);
void __tsan_mutex_post_lock(void *address, unsigned flags, int recursion);
int __tsan_mutex_pre_unlock(void *address, unsigned flags);
void __tsan_mutex_post_unlock(void *address, unsigned flags);
void __tsan_acquire(void *address);
void __tsan_release(void *address);
void AnnotateIgnoreReadsBegin(const char *_Nonnull file, int line);
void AnnotateIgnoreReadsEnd(const char *_Nonnull file, int line);
void AnnotateIgnoreWritesBegin(const char *_Nonnull file, int line);
void AnnotateIgnoreWritesEnd(const char *_Nonnull file, int line);
#else
enum { cepoll_is_thread_sanitized = 0 };
#define __tsan_mutex_create(address, flags)
#define __tsan_mutex_destroy(address, flags)
#define __tsan_mutex_pre_lock(address, flags)
#define __tsan_mutex_post_lock(address, flags, recursion)
#define __tsan_mutex_pre_unlock(address, flags)
#define __tsan_mutex_post_unlock(address, flags)
#define __tsan_acquire(address)
#define __tsan_release(address)
#define AnnotateIgnoreReadsBegin(file, line)
#define AnnotateIgnoreReadsEnd(file, line)
#define AnnotateIgnoreWritesBegin(file, line)
#define AnnotateIgnoreWritesEnd(file, line)
#endif

/// A lock begins and ends its life.
static inline void cepoll_lock_created(void *lock) { (void)lock; __tsan_mutex_create(lock, 0); }
static inline void cepoll_lock_destroyed(void *lock) { (void)lock; __tsan_mutex_destroy(lock, 0); }
/// The thread is about to take the lock, and has taken it.
static inline void cepoll_lock_taking(void *lock) { (void)lock; __tsan_mutex_pre_lock(lock, 0); }
static inline void cepoll_lock_taken(void *lock) { (void)lock; __tsan_mutex_post_lock(lock, 0, 0); }
/// The thread is about to release the lock, and has released it.
static inline void cepoll_lock_releasing(void *lock) { (void)lock; __tsan_mutex_pre_unlock(lock, 0); }
static inline void cepoll_lock_released(void *lock) { (void)lock; __tsan_mutex_post_unlock(lock, 0); }

/// The thread is about to resume a suspended task, and has done so. A continuation that is resumed before its task has suspended
/// is ordered by an atomic of Swift's runtime, which the sanitizer does not see: the release is here, and what the call itself
/// reads and writes in the task's frame is left out.
static inline void cepoll_resuming(void *task) {
    (void)task;
    __tsan_release(task);
    AnnotateIgnoreReadsBegin("", 0);
    AnnotateIgnoreWritesBegin("", 0);
}
static inline void cepoll_resumed(void) {
    AnnotateIgnoreWritesEnd("", 0);
    AnnotateIgnoreReadsEnd("", 0);
}
/// The task continues after a suspension.
static inline void cepoll_continued(void *task) { (void)task; __tsan_acquire(task); }

/// The processor's hint that this thread waits for another; no call.
static inline void cepoll_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

#pragma clang assume_nonnull end

#endif
