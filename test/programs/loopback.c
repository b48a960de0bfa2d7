// Connections of TCP within one machine: every way that bytes, ends and refusals take between two
// sockets, with readers that lag and writers that don't wait.
#include "check.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static int listener(struct sockaddr_in *a)
{
	socklen_t n = sizeof *a;
	int l = socket(AF_INET, SOCK_STREAM, 0);

	*a = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	if (l < 0 || bind(l, (void *)a, sizeof *a) != 0 || listen(l, 100) != 0 || getsockname(l, (void *)a, &n) != 0)
		return -1;
	return l;
}

// connected makes a pair of sockets.
static int connected(int p[2])
{
	struct sockaddr_in a;
	int l = listener(&a);

	p[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (l < 0 || p[0] < 0 || connect(p[0], (void *)&a, sizeof a) != 0)
		return -1;
	p[1] = accept(l, NULL, NULL);
	close(l);
	return p[1] < 0 ? -1 : 0;
}

static unsigned char byte_at(size_t i) { return (unsigned char)(i * 2654435761u >> 13); }

struct stream {
	int fd;
	size_t size;
	unsigned seed;
	int slow; // microseconds to sleep at times
	size_t done;
	int wrong;
};

static size_t piece(unsigned *seed, size_t most)
{
	static const size_t sizes[] = {1, 2, 13, 100, 536, 1460, 4096, 10000, 65536, 200000};
	size_t n = sizes[rand_r(seed) % 10];

	n = n - rand_r(seed) % (n / 2 + 1);
	return n < most ? n : most;
}

static void *writer(void *arg)
{
	struct stream *s = arg;
	unsigned char *b = malloc(200000);

	while (s->done < s->size) {
		size_t n = piece(&s->seed, s->size - s->done);
		for (size_t i = 0; i < n; i++)
			b[i] = byte_at(s->done + i);
		for (size_t at = 0; at < n;) {
			ssize_t k = write(s->fd, b + at, n - at);
			if (k <= 0) {
				s->wrong = 1;
				free(b);
				return NULL;
			}
			at += k;
		}
		s->done += n;
		if (s->slow && rand_r(&s->seed) % 20 == 0)
			usleep(s->slow);
	}
	free(b);
	return NULL;
}

static void *reader(void *arg)
{
	struct stream *s = arg;
	unsigned char *b = malloc(200000);

	while (s->done < s->size) {
		ssize_t n = read(s->fd, b, piece(&s->seed, s->size - s->done));
		if (n <= 0) {
			s->wrong = 1;
			break;
		}
		for (ssize_t i = 0; i < n; i++)
			if (b[i] != byte_at(s->done + i))
				s->wrong = 2;
		s->done += n;
		if (s->slow && rand_r(&s->seed) % 20 == 0)
			usleep(s->slow);
	}
	free(b);
	return NULL;
}

// Both directions at once, by four threads.
static void test_both_ways(void)
{
	for (int round = 0; round < 4; round++) {
		int p[2];
		CHECK(connected(p) == 0);
		if (round & 1) {
			int one = 1;
			setsockopt(p[0], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		}
		struct stream s[4];
		pthread_t t[4];
		for (int i = 0; i < 4; i++)
			s[i] = (struct stream){.fd = p[i / 2], .size = 1 << 20, .seed = 7 * round + i, .slow = round < 2 ? 0 : 500};
		CHECK_EQ(pthread_create(&t[0], NULL, writer, &s[0]), 0);
		CHECK_EQ(pthread_create(&t[1], NULL, reader, &s[1]), 0);
		CHECK_EQ(pthread_create(&t[2], NULL, writer, &s[2]), 0);
		CHECK_EQ(pthread_create(&t[3], NULL, reader, &s[3]), 0);
		for (int i = 0; i < 4; i++) {
			pthread_join(t[i], NULL);
			CHECK_EQ(s[i].wrong, 0);
			CHECK_EQ(s[i].done, s[i].size);
		}
		close(p[0]);
		close(p[1]);
	}
}

// A peer that doesn't receive holds the writer up, and costs little more memory than the buffers, even if
// every byte is written by itself: the machine of the test hasn't a kilobyte for each.
static void test_byte_by_byte(void)
{
	int p[2];
	size_t sent = 0, got = 0;

	CHECK(connected(p) == 0);
	CHECK_EQ(fcntl(p[0], F_SETFL, O_NONBLOCK), 0);
	while (sent < 400000) {
		unsigned char c = byte_at(sent);
		ssize_t n = write(p[0], &c, 1);
		if (n < 0) {
			CHECK_EQ(errno, EAGAIN);
			break;
		}
		sent++;
	}
	CHECK(sent > 1000);
	CHECK_EQ(shutdown(p[0], SHUT_WR), 0);
	for (;;) {
		unsigned char b[3000];
		ssize_t n = read(p[1], b, sizeof b);
		CHECK(n >= 0);
		if (n == 0)
			break;
		for (ssize_t i = 0; i < n; i++)
			CHECK_EQ(b[i], byte_at(got + i));
		got += n;
	}
	CHECK_EQ(got, sent);
	close(p[0]);
	close(p[1]);
}

// Each side sends after the other one's end.
static void test_half_close(void)
{
	int p[2];
	char b[100];

	CHECK(connected(p) == 0);
	CHECK_EQ(write(p[0], "request", 7), 7);
	CHECK_EQ(shutdown(p[0], SHUT_WR), 0);
	CHECK_EQ(recv(p[1], b, sizeof b, MSG_WAITALL), 7);
	CHECK_EQ(read(p[1], b, sizeof b), 0);
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(write(p[1], "answer", 6), 6);
		CHECK_EQ(read(p[0], b, sizeof b), 6);
	}
	signal(SIGPIPE, SIG_IGN);
	CHECK_EQ(write(p[0], "x", 1), -1);
	CHECK_EQ(errno, EPIPE);
	close(p[1]);
	CHECK_EQ(read(p[0], b, sizeof b), 0);
	close(p[0]);
}

// What was sent before the connection was accepted is there when it is, though the sender has closed.
static void test_before_accept(void)
{
	struct sockaddr_in a;
	int l = listener(&a), c = socket(AF_INET, SOCK_STREAM, 0);
	char b[100];

	CHECK(l >= 0 && connect(c, (void *)&a, sizeof a) == 0);
	for (int i = 0; i < 10; i++)
		CHECK_EQ(write(c, "0123456789", 10), 10);
	close(c);
	int s = accept(l, NULL, NULL);
	CHECK(s >= 0);
	CHECK_EQ(recv(s, b, 100, MSG_WAITALL), 100);
	CHECK_EQ(memcmp(b + 90, "0123456789", 10), 0);
	CHECK_EQ(read(s, b, 1), 0);
	close(s);
	close(l);
}

// Bytes that nobody has read make a close a reset; a write to who has closed is answered by one.
static void test_resets(void)
{
	int p[2];
	char b[10];

	signal(SIGPIPE, SIG_IGN);
	CHECK(connected(p) == 0);
	CHECK_EQ(write(p[0], "unread", 6), 6);
	close(p[1]);
	CHECK_EQ(read(p[0], b, sizeof b), -1);
	CHECK_EQ(errno, ECONNRESET);
	close(p[0]);

	CHECK(connected(p) == 0);
	close(p[1]);
	CHECK_EQ(write(p[0], "into the void", 13), 13);
	int e = 0;
	for (int i = 0; i < 100 && e == 0; i++) {
		usleep(10000);
		if (write(p[0], "x", 1) < 0)
			e = errno;
	}
	CHECK(e == EPIPE || e == ECONNRESET);
	close(p[0]);

	CHECK(connected(p) == 0);
	struct linger now = {.l_onoff = 1};
	CHECK_EQ(setsockopt(p[1], SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
	close(p[1]);
	CHECK_EQ(read(p[0], b, sizeof b), -1);
	CHECK_EQ(errno, ECONNRESET);
	close(p[0]);
}

static void test_peek(void)
{
	int p[2], n;
	char b[20];

	CHECK(connected(p) == 0);
	CHECK_EQ(write(p[0], "abc", 3), 3);
	CHECK_EQ(write(p[0], "defgh", 5), 5);
	CHECK_EQ(recv(p[1], b, 3, MSG_PEEK), 3);
	CHECK_EQ(ioctl(p[1], FIONREAD, &n), 0);
	CHECK_EQ(n, 8);
	CHECK_EQ(recv(p[1], NULL, 2, MSG_TRUNC), 2);
	CHECK_EQ(recv(p[1], b, sizeof b, 0), 6);
	CHECK_EQ(memcmp(b, "cdefgh", 6), 0);
	CHECK_EQ(recv(p[1], b, sizeof b, MSG_DONTWAIT), -1);
	CHECK_EQ(errno, EAGAIN);
	close(p[0]);
	close(p[1]);
}

// Edges: readable with each arrival, writable when a full connection drains.
static void test_edges(void)
{
	int p[2], ep = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN | EPOLLET};
	static char b[65536];

	CHECK(connected(p) == 0);
	CHECK_EQ(epoll_ctl(ep, EPOLL_CTL_ADD, p[1], &ev), 0);
	for (int i = 0; i < 5; i++) {
		CHECK_EQ(write(p[0], b, 100), 100);
		CHECK_EQ(epoll_wait(ep, &ev, 1, 5000), 1);
		CHECK_EQ(epoll_wait(ep, &ev, 1, 0), 0);
	}
	CHECK_EQ(fcntl(p[0], F_SETFL, O_NONBLOCK), 0);
	CHECK_EQ(fcntl(p[1], F_SETFL, O_NONBLOCK), 0);
	size_t sent = 500, got = 0;
	ssize_t n;
	for (size_t before = 0; before != sent;) { // until it stays full
		before = sent;
		while ((n = write(p[0], b, sizeof b)) > 0)
			sent += n;
		CHECK_EQ(errno, EAGAIN);
		usleep(50000);
	}
	ev.events = EPOLLOUT | EPOLLET;
	CHECK_EQ(epoll_ctl(ep, EPOLL_CTL_DEL, p[1], NULL), 0);
	CHECK_EQ(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &ev), 0);
	CHECK_EQ(epoll_wait(ep, &ev, 1, 0), 0);
	for (int i = 0; i < 5000 && got < sent; i++) {
		if ((n = read(p[1], b, sizeof b)) > 0)
			got += n;
		else
			usleep(1000);
	}
	CHECK_EQ(got, sent);
	CHECK_EQ(epoll_wait(ep, &ev, 1, 5000), 1);
	CHECK(write(p[0], b, 1000) == 1000);
	close(p[0]);
	close(p[1]);
	close(ep);
}

static void *echo(void *arg)
{
	int fd = *(int *)arg;
	char b[5000];
	ssize_t n;

	while ((n = read(fd, b, sizeof b)) > 0)
		if (write(fd, b, n) != n)
			break;
	close(fd);
	return NULL;
}

static void test_many(void)
{
	enum { pairs = 40 };
	static int p[pairs][2];
	static pthread_t t[pairs];
	char b[5000], c[5000];

	for (int i = 0; i < pairs; i++) {
		CHECK(connected(p[i]) == 0);
		CHECK_EQ(pthread_create(&t[i], NULL, echo, &p[i][1]), 0);
	}
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < pairs; i++) {
			memset(b, 'a' + (round + i) % 26, sizeof b);
			CHECK_EQ(write(p[i][0], b, 1 + 13 * i * round % 5000), 1 + 13 * i * round % 5000);
		}
		for (int i = 0; i < pairs; i++) {
			memset(b, 'a' + (round + i) % 26, sizeof b);
			size_t n = 1 + 13 * i * round % 5000;
			CHECK_EQ(recv(p[i][0], c, n, MSG_WAITALL), n);
			CHECK_EQ(memcmp(b, c, n), 0);
		}
	}
	for (int i = 0; i < pairs; i++) {
		close(p[i][0]);
		pthread_join(t[i], NULL);
	}
}

TESTS({"both-ways", test_both_ways}, {"byte-by-byte", test_byte_by_byte}, {"half-close", test_half_close},
      {"before-accept", test_before_accept}, {"resets", test_resets}, {"peek", test_peek}, {"edges", test_edges},
      {"many", test_many})
