// SPDX-License-Identifier: Apache-2.0
// Idle connections: the peers are bare descriptors, so that all memory is the server's.
#include "CHotPath.h"

#include <arpa/inet.h>
#include <errno.h>
#include <malloc.h>
#include <netinet/in.h>
#include <sys/socket.h>

int chotpath_hold(uint16_t port, int connections, int answer) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int i = 0; i < connections; i++) {
        char octet = 1;
        int link = socket(AF_INET, SOCK_STREAM, 0);
        if (link < 0 || connect(link, (struct sockaddr *)&address, sizeof address) < 0) return -errno;
        if (send(link, &octet, 1, MSG_NOSIGNAL) != 1) return -errno;
        for (int octets = 0; octets < answer; octets++)
            if (recv(link, &octet, 1, 0) != 1) return -EPIPE;
    }
    return 0;
}

int64_t chotpath_heap(void) {
    struct mallinfo2 info = mallinfo2();
    return (int64_t)(info.uordblks + info.hblkhd);
}
