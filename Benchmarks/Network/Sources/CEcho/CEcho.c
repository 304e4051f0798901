// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CEcho.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { buffer_size = 256 << 10 };
extern char **environ;

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void raise_limit(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int cecho_listen(uint16_t *port) {
    raise_limit();
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int on = 1;
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 4096)) return -1;
    getsockname(listener, (struct sockaddr *)&address, &length);
    *port = ntohs(address.sin_port);
    return listener;
}

// What could not be sent yet.
typedef struct {
    char *octets;
    size_t start, end;
} rest;

void cecho_serve(int listener) {
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.fd = listener}, events[256];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    char *buffer = malloc(buffer_size);
    static rest rests[1 << 17];
    for (;;) {
        int count = epoll_wait(epoll, events, 256, -1);
        for (int index = 0; index < count; index++) {
            int fd = events[index].data.fd;
            if (fd == listener) {
                int accepted;
                while ((accepted = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
                    event = (struct epoll_event){.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.fd = accepted};
                    epoll_ctl(epoll, EPOLL_CTL_ADD, accepted, &event);
                }
                continue;
            }
            rest *left = &rests[fd];
            for (;;) {
                if (left->start < left->end) {
                    ssize_t sent = send(fd, left->octets + left->start, left->end - left->start, MSG_NOSIGNAL);
                    if (sent < 0) break;
                    left->start += (size_t)sent;
                    if (left->start < left->end) continue;
                    free(left->octets);
                    *left = (rest){0};
                }
                ssize_t read = recv(fd, buffer, buffer_size, 0);
                if (read == 0 || (read < 0 && errno != EAGAIN)) {
                    free(left->octets);
                    *left = (rest){0};
                    close(fd);
                    break;
                }
                if (read < 0) break;
                ssize_t sent = send(fd, buffer, (size_t)read, MSG_NOSIGNAL);
                if (sent < 0) sent = 0;
                if (sent < read) {
                    *left = (rest){.octets = malloc((size_t)(read - sent)), .end = (size_t)(read - sent)};
                    memcpy(left->octets, buffer + sent, left->end);
                    continue;
                }
                if (read < buffer_size && !(events[index].events & EPOLLRDHUP)) break;
            }
        }
    }
}

static int connect_to(uint16_t port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    if (fd < 0) return -1;
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) {
        close(fd);
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

typedef struct {
    int fd;
    size_t to_send, to_read;
} peer;

// Moves on as far as the socket lets it; says how many round trips that finished.
static uint64_t drive(peer *peer, char *buffer, size_t size, uint64_t *errors) {
    uint64_t trips = 0;
    for (;;) {
        while (peer->to_send > 0) {
            ssize_t sent = send(peer->fd, buffer, peer->to_send, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (sent < 0) break;
            peer->to_send -= (size_t)sent;
        }
        ssize_t read = recv(peer->fd, buffer, size, MSG_DONTWAIT);
        if (read == 0 || (read < 0 && errno != EAGAIN)) {
            *errors += 1;
            return trips;
        }
        if (read < 0) return trips;
        peer->to_read -= (size_t)read;
        if (peer->to_read > 0) continue;
        trips++;
        peer->to_send = peer->to_read = size;
        ssize_t sent = send(peer->fd, buffer, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0) peer->to_send -= (size_t)sent;
        return trips;
    }
}

cecho_result cecho_load(uint16_t port, int connections, size_t size, uint64_t milliseconds) {
    raise_limit();
    cecho_result result = {0};
    peer *peers = calloc((size_t)connections, sizeof *peers);
    char *buffer = calloc(1, size);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    for (int index = 0; index < connections; index++) {
        peers[index] = (peer){.fd = connect_to(port), .to_send = size, .to_read = size};
        if (peers[index].fd < 0) {
            result.errors++;
            continue;
        }
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.u32 = (uint32_t)index};
        epoll_ctl(epoll, EPOLL_CTL_ADD, peers[index].fd, &event);
    }
    uint64_t start = now(), end = start + milliseconds * 1000000u;
    struct epoll_event events[256];
    while (now() < end) {
        int count = epoll_wait(epoll, events, 256, 100);
        for (int index = 0; index < count; index++)
            result.round_trips += drive(&peers[events[index].data.u32], buffer, size, &result.errors);
        if (result.errors > 1000) break;
    }
    result.nanoseconds = now() - start;
    for (int index = 0; index < connections; index++)
        if (peers[index].fd >= 0) close(peers[index].fd);
    close(epoll);
    free(buffer);
    free(peers);
    return result;
}

cecho_result cecho_connects(uint16_t port, uint64_t milliseconds) {
    cecho_result result = {0};
    uint64_t start = now(), end = start + milliseconds * 1000000u;
    struct linger linger = {.l_onoff = 1};
    while (now() < end) {
        int fd = connect_to(port);
        char octet = 1;
        if (fd < 0 || send(fd, &octet, 1, MSG_NOSIGNAL) != 1 || recv(fd, &octet, 1, 0) != 1) result.errors++;
        else result.round_trips++;
        if (fd < 0) continue;
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
        close(fd);
    }
    result.nanoseconds = now() - start;
    return result;
}

int cecho_hold(uint16_t port, int connections, int *descriptors) {
    raise_limit();
    int count = 0;
    for (int index = 0; index < connections; index++) {
        int fd = descriptors[index] = connect_to(port);
        char octet = 1;
        if (fd >= 0 && send(fd, &octet, 1, MSG_NOSIGNAL) == 1 && recv(fd, &octet, 1, 0) == 1) count++;
    }
    return count;
}

void cecho_release(const int *descriptors, int count) {
    struct linger linger = {.l_onoff = 1};
    for (int index = 0; index < count; index++) {
        if (descriptors[index] < 0) continue;
        setsockopt(descriptors[index], SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
        close(descriptors[index]);
    }
}

uint64_t cecho_cpu(int process) {
    clockid_t clock;
    struct timespec time;
    if (clock_getcpuclockid(process, &clock) || clock_gettime(clock, &time)) return 0;
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

size_t cecho_heap(void) {
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

int cecho_start(const char *name, int *input, int *output) {
    const char *arguments[] = {"net-bench", "serve", name, NULL};
    int in[2], out[2];
    if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC)) return -1;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    pid_t process = -1;
    if (posix_spawn(&process, "/proc/self/exe", &actions, NULL, (char *const *)arguments, environ)) process = -1;
    posix_spawn_file_actions_destroy(&actions);
    close(in[0]);
    close(out[1]);
    *input = in[1];
    *output = out[0];
    return process;
}

void cecho_stop(int process) {
    kill(process, SIGKILL);
    waitpid(process, NULL, 0);
}
