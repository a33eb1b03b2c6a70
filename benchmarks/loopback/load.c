/* A closed loop of HTTP requests on loopback, one thread: each of N connections asks again as soon as
   it has its answer.

   load PORT CONNECTIONS REQUESTS < request     prints one JSON object */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SIZE (1 << 20)

struct peer { int fd, length; double began; char *data; };

static char request[1 << 16];
static size_t request_size;
static double *seconds;
static int started, done, errors, wanted;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int order(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void ask(struct peer *peer) {
    if (started >= wanted) return;
    started++;
    peer->length = 0;
    peer->began = now();
    if (send(peer->fd, request, request_size, MSG_NOSIGNAL) != (ssize_t)request_size) errors++;
}

static int whole(struct peer *peer) {
    peer->data[peer->length] = 0;
    char *end = strstr(peer->data, "\r\n\r\n");
    if (!end) return 0;
    char *sized = strcasestr(peer->data, "\r\ncontent-length:");
    if (sized && sized < end) return peer->length >= end - peer->data + 4 + atoi(sized + 17);
    return peer->length > 5 && !memcmp(peer->data + peer->length - 5, "0\r\n\r\n", 5);
}

static int dial(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (connect(fd, (void *)&address, sizeof address)) { perror("connect"); exit(1); }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

int main(int count, char **words) {
    if (count < 4) return 2;
    int port = atoi(words[1]), connections = atoi(words[2]), poll = epoll_create1(0);
    wanted = atoi(words[3]);
    request_size = fread(request, 1, sizeof request, stdin);
    seconds = malloc(sizeof(double) * (wanted + 1));
    struct peer *peers = calloc(connections, sizeof *peers);
    struct epoll_event events[256];
    for (int i = 0; i < connections; i++) {
        peers[i].fd = dial(port);
        peers[i].data = malloc(SIZE + 1);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &peers[i]};
        epoll_ctl(poll, EPOLL_CTL_ADD, peers[i].fd, &event);
    }
    double began = now();
    for (int i = 0; i < connections; i++) ask(&peers[i]);
    while (done < wanted) {
        int ready = epoll_wait(poll, events, 256, 60000);
        if (ready <= 0) { fprintf(stderr, "no answer for a minute\n"); return 1; }
        for (int i = 0; i < ready; i++) {
            struct peer *peer = events[i].data.ptr;
            ssize_t got = recv(peer->fd, peer->data + peer->length, SIZE - peer->length, 0);
            if (got <= 0) {
                struct epoll_event event = {.events = EPOLLIN, .data.ptr = peer};
                close(peer->fd);
                peer->fd = dial(port);
                epoll_ctl(poll, EPOLL_CTL_ADD, peer->fd, &event);
                errors++;
                seconds[done++] = now() - peer->began;
                ask(peer);
                continue;
            }
            peer->length += got;
            if (!whole(peer)) continue;
            if (memcmp(peer->data, "HTTP/1.1 200", 12)) {
                if (!errors++) fprintf(stderr, "%.600s\n", peer->data);
            }
            seconds[done++] = now() - peer->began;
            ask(peer);
        }
    }
    double wall = now() - began;
    qsort(seconds, done, sizeof *seconds, order);
    printf("{\"per_s\": %.1f, \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"errors\": %d}\n", done / wall,
           seconds[done / 2] * 1000, seconds[(int)(done * 0.99)] * 1000, errors);
    return 0;
}
