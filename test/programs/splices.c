// splice, tee, vmsplice and sendfile between pipes, files and sockets.
#include "check.h"
#include <sys/eventfd.h>
#include <poll.h>
#include <pthread.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

static int p[2], q[2], s[2];
static char b[200000];

static void close_all(void)
{
	close(p[0]);
	close(p[1]);
	close(q[0]);
	close(q[1]);
	close(s[0]);
	close(s[1]);
}

static int open_all(int type)
{
	return pipe(p) == 0 && pipe(q) == 0 && socketpair(AF_UNIX, type, 0, s) == 0;
}

static void arguments(void)
{
	long off = 0;
	CHECK(open_all(SOCK_STREAM));
	CHECK_EQ(splice(-1, NULL, -1, NULL, 0, 0), 0);
	CHECK_ERR(splice(p[0], NULL, q[1], NULL, 1, 0x100), EINVAL);
	CHECK_ERR(splice(99, NULL, q[1], NULL, 1, 0), EBADF);
	CHECK_ERR(splice(p[1], NULL, q[1], NULL, 1, 0), EBADF);
	CHECK_ERR(splice(p[0], NULL, q[0], NULL, 1, 0), EBADF);
	CHECK_ERR(splice(p[0], NULL, p[1], NULL, 1, 0), EINVAL);
	CHECK_ERR(splice(p[0], &off, q[1], NULL, 1, 0), ESPIPE);
	CHECK_ERR(splice(p[0], NULL, q[1], &off, 1, 0), ESPIPE);
	CHECK_ERR(splice(s[0], NULL, s[1], NULL, 1, 0), EINVAL);
	CHECK_ERR(splice(p[0], NULL, q[1], NULL, 1, SPLICE_F_NONBLOCK), EAGAIN);
	CHECK_ERR(tee(p[0], s[1], 1, 0), EINVAL);
	CHECK_ERR(tee(p[0], p[1], 1, 0), EINVAL);
	CHECK_ERR(tee(p[0], q[1], 1, 0x100), EINVAL);
	CHECK_ERR(tee(p[0], q[1], 1, SPLICE_F_NONBLOCK), EAGAIN);
	struct iovec v = {b, 5};
	CHECK_ERR(vmsplice(s[0], &v, 1, 0), EBADF);
	CHECK_ERR(vmsplice(p[1], &v, 1, 0x100), EINVAL);
	CHECK_ERR(vmsplice(p[1], &v, 2000, 0), EINVAL);
	CHECK_ERR(vmsplice(p[0], &v, 1, SPLICE_F_NONBLOCK), EAGAIN);
	close_all();
}

static void pipes(void)
{
	CHECK(open_all(SOCK_STREAM));
	CHECK_EQ(write(p[1], "hello world", 11), 11);
	CHECK_EQ(tee(p[0], q[1], 5, 0), 5);
	CHECK_EQ(read(q[0], b, 100), 5);
	CHECK_EQ(memcmp(b, "hello", 5), 0);
	CHECK_EQ(tee(p[0], q[1], 100, 0), 11);
	CHECK_EQ(write(q[1], "!", 1), 1); // what they share doesn't change
	CHECK_EQ(read(q[0], b, 100), 12);
	CHECK_EQ(splice(p[0], NULL, q[1], NULL, 3, 0), 3);
	CHECK_EQ(splice(p[0], NULL, q[1], NULL, 100, 0), 8);
	CHECK_EQ(read(q[0], b, 100), 11);
	CHECK_EQ(memcmp(b, "hello world", 11), 0);
	struct iovec v[2] = {{"abc", 3}, {"def", 3}}, w = {b, 100};
	CHECK_EQ(vmsplice(p[1], v, 2, 0), 6);
	CHECK_EQ(vmsplice(p[0], &w, 1, 0), 6);
	CHECK_EQ(memcmp(b, "abcdef", 6), 0);
	// A full pipe.
	fcntl(q[1], F_SETFL, O_NONBLOCK);
	while (write(q[1], b, 4096) > 0)
		;
	CHECK_EQ(write(p[1], "x", 1), 1);
	CHECK_ERR(splice(p[0], NULL, q[1], NULL, 1, SPLICE_F_NONBLOCK), EAGAIN);
	CHECK_EQ(read(p[0], b, 10), 1);
	// The end.
	CHECK(read(q[0], b, sizeof b) > 0);
	close(p[1]);
	CHECK_EQ(splice(p[0], NULL, q[1], NULL, 1, 0), 0);
	CHECK_EQ(tee(p[0], q[1], 1, 0), 0);
	signal(SIGPIPE, SIG_IGN);
	int r[2];
	CHECK_EQ(pipe(r), 0);
	CHECK_EQ(write(r[1], "x", 1), 1);
	close(q[0]);
	CHECK_ERR(splice(r[0], NULL, q[1], NULL, 1, 0), EPIPE);
	close(r[0]);
	close(r[1]);
	close_all();
}

static void sockets(void)
{
	CHECK(open_all(SOCK_STREAM));
	CHECK_EQ(write(p[1], "through", 7), 7);
	CHECK_EQ(splice(p[0], NULL, s[0], NULL, 100, 0), 7);
	CHECK_EQ(splice(s[1], NULL, q[1], NULL, 100, 0), 7);
	CHECK_EQ(read(q[0], b, 100), 7);
	CHECK_EQ(memcmp(b, "through", 7), 0);
	fcntl(s[1], F_SETFL, O_NONBLOCK);
	CHECK_ERR(splice(s[1], NULL, q[1], NULL, 100, 0), EAGAIN);
	// A socket that takes no more loses nothing of the pipe.
	fcntl(s[0], F_SETFL, O_NONBLOCK);
	fcntl(p[1], F_SETFL, O_NONBLOCK);
	long in = 0, out = 0, n;
	for (int i = 0; i < (int)sizeof b; i++)
		b[i] = i % 251;
	for (int full = 0; !full;) {
		while ((n = write(p[1], b + in % 251, 10000)) > 0)
			in += n;
		n = splice(p[0], NULL, s[0], NULL, 1 << 20, SPLICE_F_NONBLOCK);
		full = n < 0;
		if (full)
			CHECK_EQ(errno, EAGAIN);
	}
	static char c[100000];
	while (out < in) {
		n = read(s[1], c, sizeof c);
		if (n < 0) {
			CHECK_EQ(errno, EAGAIN);
			CHECK(splice(p[0], NULL, s[0], NULL, 1 << 20, SPLICE_F_NONBLOCK) > 0);
			continue;
		}
		for (long i = 0; i < n; i++)
			if (c[i] != (char)((out + i) % 251))
				CHECK_EQ(out + i, -1);
		out += n;
	}
	CHECK_EQ(out, in);
	close(s[1]);
	signal(SIGPIPE, SIG_IGN);
	CHECK_EQ(write(p[1], "x", 1), 1);
	CHECK_ERR(splice(p[0], NULL, s[0], NULL, 1, 0), EPIPE);
	close_all();
}

static void *drain(void *arg)
{
	long *sum = arg, n;
	static char c[50000];
	while ((n = read(s[1], c, sizeof c)) > 0)
		for (long i = 0; i < n; i++)
			*sum += (unsigned char)c[i];
	return 0;
}

static void files(void)
{
	char name[] = "/tmp/splices-XXXXXX";
	CHECK(open_all(SOCK_STREAM));
	int f = mkstemp(name);
	CHECK(f >= 0);
	unlink(name);
	long want = 0, sum = 0;
	for (int i = 0; i < (int)sizeof b; i++)
		want += (unsigned char)(b[i] = i * 7);
	CHECK_EQ(write(f, b, sizeof b), sizeof b);
	pthread_t t;
	CHECK_EQ(pthread_create(&t, 0, drain, &sum), 0);
	off_t off = 0;
	while (off < (long)sizeof b)
		CHECK(sendfile(s[0], f, &off, sizeof b) > 0);
	lseek(f, 0, SEEK_SET);
	for (long n, left = sizeof b; left > 0; left -= n) {
		n = splice(f, NULL, p[1], NULL, left, 0);
		CHECK(n > 0 && n <= 65536);
		for (long m, rest = n; rest > 0; rest -= m) {
			m = splice(p[0], NULL, s[0], NULL, rest, 0);
			CHECK(m > 0);
		}
	}
	shutdown(s[0], SHUT_WR);
	pthread_join(t, 0);
	CHECK_EQ(sum, 2 * want);
	// Offsets are read and given back.
	long at = 5;
	CHECK_EQ(splice(f, &at, p[1], NULL, 10, 0), 10);
	CHECK_EQ(at, 15);
	at = 100;
	CHECK_EQ(splice(p[0], NULL, f, &at, 10, 0), 10);
	CHECK_EQ(at, 110);
	char x[10], y[10];
	CHECK_EQ(pread(f, x, 10, 5), 10);
	CHECK_EQ(pread(f, y, 10, 100), 10);
	CHECK_EQ(memcmp(x, y, 10), 0);
	fcntl(s[0], F_SETFL, O_NONBLOCK);
	close(f);
	close_all();
}

// What can't be spliced is refused at once, before anybody waits for an empty pipe.
static void unspliceable(void)
{
	int p[2], e = eventfd(0, 0), d = open("/", O_RDONLY | O_DIRECTORY), zero = open("/dev/zero", O_RDONLY);

	CHECK(e >= 0 && d >= 0 && zero >= 0 && pipe(p) == 0);
	CHECK_ERR(splice(d, NULL, p[1], NULL, 100, 0), EINVAL);
	CHECK_ERR(splice(p[0], NULL, e, NULL, 8, 0), EINVAL);
	CHECK_ERR(readahead(zero, 0, 4096), EINVAL);
	CHECK_ERR(readahead(p[0], 0, 4096), EINVAL);
	close(p[0]), close(p[1]), close(e), close(d), close(zero);
}

// sendfile takes no bytes from a stream, not even when there are none to take and nobody waits for them:
// programs try it first, and copy when they are told EINVAL. To a pipe it may come from a socket.
static void sent_streams(void)
{
	static char page[70000];
	char name[] = "/tmp/splices-XXXXXX";
	int e = eventfd(1, EFD_NONBLOCK), f = mkstemp(name);
	long off = 0;

	CHECK(e >= 0 && f >= 0 && open_all(SOCK_STREAM));
	unlink(name);
	fcntl(p[0], F_SETFL, O_NONBLOCK);
	CHECK_ERR(sendfile(s[0], p[0], NULL, 100), EINVAL);
	CHECK_ERR(sendfile(q[1], p[0], NULL, 100), EINVAL);
	CHECK_ERR(sendfile(f, p[0], NULL, 100), EINVAL);
	CHECK_ERR(sendfile(s[0], p[0], &off, 100), ESPIPE);
	CHECK_ERR(sendfile(s[0], e, NULL, 8), EINVAL);
	CHECK_ERR(sendfile(s[0], s[1], NULL, 100), EINVAL);
	CHECK_EQ(write(s[1], "hello", 5), 5);
	CHECK_ERR(sendfile(f, s[0], NULL, 100), EINVAL);
	CHECK_EQ(sendfile(p[1], s[0], NULL, 100), 5);
	CHECK_EQ(read(p[0], b, 100), 5);
	CHECK_EQ(memcmp(b, "hello", 5), 0);
	// A device without an end has no place either, and yet takes any.
	int zero = open("/dev/zero", O_RDONLY);
	CHECK(zero >= 0);
	CHECK_EQ(sendfile(s[0], zero, NULL, 100), 100);
	CHECK_EQ(sendfile(s[0], zero, &off, 100), 100);
	CHECK_EQ(splice(zero, &off, p[1], NULL, 100, 0), 100);
	CHECK_EQ(read(p[0], b, 1000), 100);
	off = 0;
	close(zero);
	// A pipe takes what it has room for, and doesn't wait for more.
	CHECK_EQ(write(f, page, sizeof page), sizeof page);
	CHECK_EQ(sendfile(p[1], f, &off, sizeof page), 65536);
	CHECK_EQ(off, 65536);
	fcntl(p[1], F_SETFL, O_NONBLOCK);
	CHECK_ERR(sendfile(p[1], f, &off, 100), EAGAIN);
	close(e), close(f), close_all();
}

TESTS({"unspliceable", unspliceable}, {"sent_streams", sent_streams}, {"arguments", arguments}, {"pipes", pipes}, {"sockets", sockets}, {"files", files})
