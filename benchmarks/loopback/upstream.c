/* A model server that is never the bottleneck: OpenAI's chat completions on loopback, one thread.

   upstream DELAY_MS    prints its port; serves until killed.

   It answers whole, or as server-sent events where the body asks for a stream. A body with FAIL500,
   FAIL429 or DROP gets that instead, one with CUT half of its answer and then the end of the
   connection. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <signal.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SIZE (1 << 18)
#define MOST 8192
#define EVENTS 20

struct peer { int length; char *data; };
struct due { double at; int fd, cut; const char *reply; size_t size; unsigned serial; };

static struct peer peers[MOST];
static unsigned serials[MOST];
static struct due queue[MOST * 2];
static unsigned head, tail;
static char whole[4096], stream[16384], bad500[512], bad429[512];
static size_t whole_size, stream_size, bad500_size, bad429_size;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static size_t reply(char *out, const char *status, const char *type, const char *body) {
    return sprintf(out, "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n%s",
                   status, type, strlen(body), body);
}

static void chunk(const char *event) {
    stream_size += sprintf(stream + stream_size, "%zx\r\n%s\r\n", strlen(event), event);
}

static void prepare(void) {
    char event[1024];
    const char *shape = "data: {\"id\":\"mock\",\"object\":\"chat.completion.chunk\",\"created\":1,"
                        "\"model\":\"mock\",\"choices\":[%s]%s}\n\n";
    whole_size = reply(whole, "200 OK", "application/json",
        "{\"id\":\"mock\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"mock\","
        "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":"
        "\"The total is 42. The total is 42. The total is 42. The total is 42.\"},"
        "\"finish_reason\":\"stop\"}],"
        "\"usage\":{\"prompt_tokens\":60,\"completion_tokens\":40,\"total_tokens\":100}}");
    bad500_size = reply(bad500, "500 Internal Server Error", "application/json",
                        "{\"error\":{\"message\":\"broken\"}}");
    bad429_size = reply(bad429, "429 Too Many Requests", "application/json",
                        "{\"error\":{\"message\":\"slow down\"}}");
    stream_size = sprintf(stream, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                                  "Transfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < EVENTS; i++) {
        sprintf(event, shape, "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":"
                "\"The total is 42. \"},\"finish_reason\":null}", "");
        chunk(event);
    }
    sprintf(event, shape, "{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}", "");
    chunk(event);
    sprintf(event, shape, "", ",\"usage\":{\"prompt_tokens\":60,\"completion_tokens\":40,"
                              "\"total_tokens\":100}");
    chunk(event);
    chunk("data: [DONE]\n\n");
    stream_size += sprintf(stream + stream_size, "0\r\n\r\n");
}

static void drop(int fd) {
    close(fd);
    peers[fd].length = 0;
    serials[fd]++;
}

static void answer(int fd, const char *text, size_t size, int cut) {
    while (size > 0) {
        ssize_t sent = send(fd, text, size, MSG_NOSIGNAL);
        if (sent <= 0) { drop(fd); return; }
        text += sent;
        size -= sent;
    }
    if (cut) drop(fd);
}

/* The length of the first complete request, or 0. */
static int complete(char *data, int length) {
    char *end = memmem(data, length, "\r\n\r\n", 4);
    if (!end) return 0;
    int body = end - data + 4;
    *end = 0;
    char *chunked = strcasestr(data, "\r\ntransfer-encoding: chunked");
    char *sized = strcasestr(data, "\r\ncontent-length:");
    int size = sized ? atoi(sized + 17) : 0;
    *end = '\r';
    if (chunked) {
        char *last = memmem(data + body, length - body, "0\r\n\r\n", 5);
        return last ? last - data + 5 : 0;
    }
    return body + size <= length ? body + size : 0;
}

static void serve(int fd, double delay) {
    struct peer *peer = &peers[fd];
    int size;
    while ((size = complete(peer->data, peer->length))) {
        char *data = peer->data;
        const char *text = whole;
        size_t bytes = whole_size;
        if (memmem(data, size, "\"stream\":true", 13) || memmem(data, size, "\"stream\": true", 14)) {
            text = stream;
            bytes = stream_size;
        }
        int dropped = memmem(data, size, "DROP", 4) != NULL, cut = memmem(data, size, "CUT", 3) != NULL;
        if (memmem(data, size, "FAIL500", 7)) { text = bad500; bytes = bad500_size; }
        if (memmem(data, size, "FAIL429", 7)) { text = bad429; bytes = bad429_size; }
        if (cut) bytes /= 2;
        memmove(data, data + size, peer->length -= size);
        if (dropped) { drop(fd); return; }
        if (delay <= 0) { answer(fd, text, bytes, cut); continue; }
        queue[tail++ % (MOST * 2)] = (struct due){now() + delay, fd, cut, text, bytes, serials[fd]};
    }
}

int main(int count, char **words) {
    double delay = count > 1 ? atof(words[1]) / 1000 : 0;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), poll = epoll_create1(0), one = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prepare();
    if (bind(listener, (void *)&address, size) || listen(listener, 4096)) return 1;
    getsockname(listener, (void *)&address, &size);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int wait = head == tail ? -1 : (int)((queue[head % (MOST * 2)].at - now()) * 1000 + 0.999);
        int ready = epoll_wait(poll, events, 256, wait < 0 && head != tail ? 0 : wait);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                int peer;
                while ((peer = accept(listener, NULL, NULL)) >= 0) {
                    if (peer >= MOST) { close(peer); continue; }
                    setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    if (!peers[peer].data) peers[peer].data = malloc(SIZE);
                    peers[peer].length = 0;
                    event = (struct epoll_event){.events = EPOLLIN, .data.fd = peer};
                    epoll_ctl(poll, EPOLL_CTL_ADD, peer, &event);
                }
                continue;
            }
            struct peer *peer = &peers[fd];
            ssize_t got = recv(fd, peer->data + peer->length, SIZE - peer->length, 0);
            if (got <= 0) { drop(fd); continue; }
            peer->length += got;
            serve(fd, delay);
        }
        while (head != tail && queue[head % (MOST * 2)].at <= now()) {
            struct due *due = &queue[head++ % (MOST * 2)];
            if (due->serial == serials[due->fd]) answer(due->fd, due->reply, due->size, due->cut);
        }
    }
}
