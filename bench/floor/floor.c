/*
 * floor: what one keep-alive HTTP/1.1 request costs this machine's kernel and
 * nothing else. One epoll loop; for each request one read and one write of
 * canned bytes, never looking at what was asked. No server that answers from
 * memory over TCP with these calls can cost less.
 *
 *   floor PORT SIZE      listens on 127.0.0.1:PORT, answers SIZE body bytes
 *
 * It takes each read for one whole request, and its writes block: it is for
 * clients that do not pipeline and that read what they asked for, as wrk.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, HEAD_MAX = 512, SIZE_MAX_BYTES = 64 << 20 };

static int die(const char *what) {
  perror(what);
  return 1;
}

static void watch(int ep, int fd) {
  struct epoll_event e = {.events = EPOLLIN, .data = {.fd = fd}};
  if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) != 0) close(fd);
}

/* answer reads one request and writes one response; 0 when the client left. */
static int answer(int fd, const char *out, size_t n) {
  static char in[65536];
  if (read(fd, in, sizeof in) <= 0) return 0;
  while (n > 0) {
    ssize_t w = write(fd, out, n); /* once, for a socket that blocks */
    if (w <= 0) return 0;
    out += w;
    n -= (size_t)w;
  }
  return 1;
}

int main(int argc, char **argv) {
  int port = argc == 3 ? atoi(argv[1]) : 0, size = argc == 3 ? atoi(argv[2]) : -1;
  if (port <= 0 || port > 65535 || size < 0 || size > SIZE_MAX_BYTES) {
    fprintf(stderr, "usage: floor PORT SIZE\n");
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);

  char *out = malloc((size_t)size + HEAD_MAX);
  if (out == NULL) return die("malloc");
  int head = snprintf(out, HEAD_MAX,
                      "HTTP/1.1 200 OK\r\n"
                      "Content-Type: application/octet-stream\r\n"
                      "Cache-Control: public, max-age=3600\r\n"
                      "ETag: \"v1-%d\"\r\n"
                      "Last-Modified: Tue, 15 Nov 2022 12:45:26 GMT\r\n"
                      "Age: 12\r\n"
                      "Date: Sat, 21 Nov 2026 22:00:00 GMT\r\n"
                      "Content-Length: %d\r\n\r\n",
                      size, size);
  for (int i = 0; i < size; i++) out[head + i] = "0123456789abcdef"[i % 16];
  size_t n = (size_t)head + (size_t)size;

  int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
  if (s < 0) return die("socket");
  setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(s, (struct sockaddr *)&a, sizeof a) != 0 || listen(s, 4096) != 0) return die("listen");

  int ep = epoll_create1(0);
  if (ep < 0) return die("epoll_create1");
  watch(ep, s);
  for (;;) {
    struct epoll_event ev[EVENTS];
    int ready = epoll_wait(ep, ev, EVENTS, -1);
    for (int i = 0; i < ready; i++) {
      int fd = ev[i].data.fd;
      if (fd != s) {
        if (!answer(fd, out, n)) close(fd);
        continue;
      }
      for (int c; (c = accept4(s, NULL, NULL, 0)) >= 0;) {
        setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        watch(ep, c);
      }
    }
  }
}
