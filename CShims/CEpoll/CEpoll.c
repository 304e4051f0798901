// SPDX-License-Identifier: Apache-2.0
// CEpoll: the calls whose headers may not show in CEpoll.h, and the layouts the Swift side relies on.
#define _GNU_SOURCE
#include "CEpoll.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

_Static_assert(sizeof(((struct epoll_event *)0)->data) == 8, "an epoll token is 64 bits");
_Static_assert(sizeof(struct sockaddr_un) <= sizeof(struct sockaddr_storage), "every address fits the storage");
_Static_assert(sizeof(socklen_t) == sizeof(unsigned), "lengths of addresses pass as unsigned");
_Static_assert(EAGAIN == EWOULDBLOCK, "one would-block");

// System calls of the hot path are made by number: the C library's functions for these are cancellation points
// of its threads, which cost two locked instructions each. Nobody cancels these threads.

ptrdiff_t cepoll_recv(int descriptor, void *buffer, size_t capacity) {
    ptrdiff_t count = syscall(SYS_recvfrom, descriptor, buffer, capacity, MSG_DONTWAIT, NULL, NULL);
    return count < 0 ? -errno : count;
}

ptrdiff_t cepoll_recv_message(int descriptor, void *buffer, size_t capacity, int *is_cut) {
    struct iovec vector = {.iov_base = buffer, .iov_len = capacity};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    ptrdiff_t count = syscall(SYS_recvmsg, descriptor, &message, MSG_DONTWAIT);
    if (count < 0) return -errno;
    *is_cut = (message.msg_flags & MSG_CTRUNC) != 0;
    return count;
}

static _Thread_local unsigned spent;
unsigned cepoll_spent(void) { return spent; }
void cepoll_spend(unsigned units) { spent += units; }
void cepoll_renew(void) { spent = 0; }

static _Thread_local const void *current_loop;
const void *cepoll_current_loop(void) { return current_loop; }
void cepoll_set_current_loop(const void *loop) { current_loop = loop; }

static _Thread_local const void *simulation;
static _Thread_local const uint64_t *simulated_time;
const void *cepoll_simulation(void) { return simulation; }
void cepoll_set_simulation(const void *context, const uint64_t *nanoseconds) {
    simulation = context;
    simulated_time = nanoseconds;
}

uint64_t cepoll_now(void) {
    if (__builtin_expect(simulated_time != NULL, 0)) return *simulated_time;
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

ptrdiff_t cepoll_send(int descriptor, const void *octets, size_t count) {
    ptrdiff_t taken = syscall(SYS_sendto, descriptor, octets, count, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
    return taken < 0 ? -errno : taken;
}

ptrdiff_t cepoll_send_vectors(int descriptor, const struct iovec *vectors, size_t count) {
    struct msghdr message = {.msg_iov = (struct iovec *)vectors, .msg_iovlen = count};
    ptrdiff_t taken = sendmsg(descriptor, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    return taken < 0 ? -errno : taken;
}

int cepoll_stream_socket(int family) {
    int descriptor = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return descriptor < 0 ? -errno : descriptor;
}

int cepoll_socketpair(int *descriptors) {
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, descriptors) < 0 ? -errno : 0;
}

int cepoll_unsent(int descriptor) {
    int count = 0;
    return ioctl(descriptor, SIOCOUTQ, &count) < 0 ? -errno : count;
}

int cepoll_tcp_is_closed(int descriptor) {
    struct tcp_info info;
    socklen_t size = sizeof info;
    return getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 && info.tcpi_state == TCP_CLOSE;
}

int cepoll_connect(int descriptor, const void *address, unsigned length) {
    return connect(descriptor, (const struct sockaddr *)address, length) < 0 ? -errno : 0;
}

int cepoll_bind(int descriptor, const void *address, unsigned length) {
    return bind(descriptor, (const struct sockaddr *)address, length) < 0 ? -errno : 0;
}

int cepoll_listen(int descriptor, int backlog) { return listen(descriptor, backlog) < 0 ? -errno : 0; }

int cepoll_shutdown_write(int descriptor) { return shutdown(descriptor, SHUT_WR) < 0 ? -errno : 0; }

int cepoll_shutdown_both(int descriptor) { return shutdown(descriptor, SHUT_RDWR) < 0 ? -errno : 0; }

int cepoll_local_address(int descriptor, void *address, unsigned *length) {
    return getsockname(descriptor, (struct sockaddr *)address, length) < 0 ? -errno : 0;
}

int cepoll_peer_address(int descriptor, void *address, unsigned *length) {
    return getpeername(descriptor, (struct sockaddr *)address, length) < 0 ? -errno : 0;
}

int cepoll_family(int descriptor) {
    int value = 0;
    unsigned length = sizeof value;
    return getsockopt(descriptor, SOL_SOCKET, SO_DOMAIN, &value, &length) < 0 ? -errno : value;
}

int cepoll_pending_error(int descriptor) {
    int value = 0;
    unsigned length = sizeof value;
    return getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &value, &length) < 0 ? -errno : value;
}

int cepoll_set_send_buffer(int descriptor, int octets) {
    return setsockopt(descriptor, SOL_SOCKET, SO_SNDBUF, &octets, sizeof octets) < 0 ? -errno : 0;
}

int cepoll_set_receive_buffer(int descriptor, int octets) {
    return setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &octets, sizeof octets) < 0 ? -errno : 0;
}

int cepoll_set_keep_alive(int descriptor, int enabled) {
    return setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &enabled, sizeof enabled) < 0 ? -errno : 0;
}

int cepoll_set_reuse_address(int descriptor, int enabled) {
    return setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &enabled, sizeof enabled) < 0 ? -errno : 0;
}

int cepoll_set_reuse_port(int descriptor, int enabled) {
    return setsockopt(descriptor, SOL_SOCKET, SO_REUSEPORT, &enabled, sizeof enabled) < 0 ? -errno : 0;
}

int cepoll_set_linger_zero(int descriptor) {
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    return setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) < 0 ? -errno : 0;
}

int cepoll_accept(int descriptor) {
    int accepted = accept4(descriptor, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    return accepted < 0 ? -errno : accepted;
}

int cepoll_close(int descriptor) { return close(descriptor) < 0 ? -errno : 0; }

int cepoll_set_no_delay(int descriptor, int enabled) {
    return setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &enabled, sizeof enabled) < 0 ? -errno : 0;
}

int cepoll_set_user_timeout(int descriptor, unsigned milliseconds) {
    return setsockopt(descriptor, IPPROTO_TCP, TCP_USER_TIMEOUT, &milliseconds, sizeof milliseconds) < 0 ? -errno : 0;
}

int cepoll_name_thread(const char *name) { return -pthread_setname_np(pthread_self(), name); }

int cepoll_set_keep_alive_times(int descriptor, int idle, int interval, int count) {
    if (setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle) < 0) return -errno;
    if (setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval) < 0) return -errno;
    return setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count) < 0 ? -errno : 0;
}

int cepoll_set_quick_ack(int descriptor, int enabled) {
    return setsockopt(descriptor, IPPROTO_TCP, TCP_QUICKACK, &enabled, sizeof enabled) < 0 ? -errno : 0;
}

int cepoll_peer_credentials(int descriptor, int *process, unsigned *user, unsigned *group) {
    struct ucred credentials = {0};
    unsigned length = sizeof credentials;
    if (getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &credentials, &length) < 0) return -errno;
    *process = credentials.pid;
    *user = credentials.uid;
    *group = credentials.gid;
    return 0;
}

int cepoll_open_null(void) {
    int descriptor = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return descriptor < 0 ? -errno : descriptor;
}

int cepoll_wait(int epfd, struct epoll_event *events, int capacity, int timeout_ms) {
    int count = (int)syscall(SYS_epoll_pwait, epfd, events, capacity, timeout_ms, NULL, (size_t)8);
    return count < 0 ? -errno : count;
}

int cepoll_wait_nanoseconds(int epfd, struct epoll_event *events, int capacity, uint64_t timeout_ns) {
#ifdef SYS_epoll_pwait2
    struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / 1000000000u), .tv_nsec = (long)(timeout_ns % 1000000000u)};
    int count = (int)syscall(SYS_epoll_pwait2, epfd, events, capacity, &timeout, NULL, (size_t)8);
    return count < 0 ? -errno : count;
#else
    return -ENOSYS;
#endif
}

int cepoll_set_timer_slack(unsigned long nanoseconds) {
    return prctl(PR_SET_TIMERSLACK, nanoseconds, 0, 0, 0) < 0 ? -errno : 0;
}

int cepoll_timer(void) {
    int descriptor = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    return descriptor < 0 ? -errno : descriptor;
}

int cepoll_timer_set(int descriptor, uint64_t time_ns) {
    struct itimerspec time = {0};
    time.it_value.tv_sec = (time_t)(time_ns / 1000000000u);
    time.it_value.tv_nsec = (long)(time_ns % 1000000000u);
    return timerfd_settime(descriptor, TFD_TIMER_ABSTIME, &time, NULL) < 0 ? -errno : 0;
}

int cepoll_futex_wait(const void *word, uint32_t value) {
    return syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0) < 0 ? -errno : 0;
}

int cepoll_futex_wake(const void *word) {
    long count = syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    return count < 0 ? -errno : (int)count;
}
