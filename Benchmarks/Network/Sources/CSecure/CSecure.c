// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CSecure.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

void csecure_serve(int listener, const char *chain, const char *key, size_t size) {
    signal(SIGPIPE, SIG_IGN);
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (!context || SSL_CTX_use_certificate_chain_file(context, chain) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1) {
        ERR_print_errors_fp(stderr);
        exit(1);
    }
    char *block = calloc(1, size);
    for (;;) {
        struct pollfd waiting = {.fd = listener, .events = POLLIN};
        poll(&waiting, 1, -1);
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) continue;
        SSL *ssl = SSL_new(context);
        SSL_set_fd(ssl, fd);
        char what = 0;
        if (SSL_accept(ssl) == 1 && SSL_read(ssl, &what, 1) == 1) {
            if (what == 's')
                while (SSL_write(ssl, block, (int)size) > 0) {}
            else
                while (SSL_read(ssl, block, (int)size) > 0) {}
        }
        SSL_free(ssl);
        close(fd);
    }
}

csecure_result csecure_load(uint16_t port, int server_sends, size_t size, uint64_t milliseconds) {
    csecure_result result = {0};
    signal(SIGPIPE, SIG_IGN);
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(context);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    SSL_set_fd(ssl, fd);
    char *block = calloc(1, size);
    char what = server_sends ? 's' : 'r';
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) result.error = 1;
    else if (SSL_connect(ssl) != 1) result.error = 2;
    else if (SSL_write(ssl, &what, 1) != 1) result.error = 3;
    if (result.error == 0) {
        snprintf(result.cipher, sizeof result.cipher, "%s %s", SSL_get_version(ssl), SSL_get_cipher_name(ssl));
        uint64_t start = now(), end = start + milliseconds * 1000000u;
        while (now() < end) {
            int count = server_sends ? SSL_read(ssl, block, (int)size) : SSL_write(ssl, block, (int)size);
            if (count <= 0) {
                result.error = 4;
                break;
            }
            result.octets += (uint64_t)count;
        }
        result.nanoseconds = now() - start;
    }
    free(block);
    SSL_free(ssl);
    close(fd);
    SSL_CTX_free(context);
    return result;
}
