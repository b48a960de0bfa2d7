// AF_UNIX sockets.
#include "check.h"
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static void test_stream(void)
{
	int s[2];
	char b[32];

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	CHECK_EQ(fcntl(s[0], F_GETFD), FD_CLOEXEC);
	CHECK_EQ(write(s[0], "abc", 3), 3);
	CHECK_EQ(send(s[0], "def", 3, 0), 3);
	CHECK_EQ(recv(s[1], b, 2, MSG_PEEK), 2);
	CHECK_EQ(read(s[1], b, 32), 6); // a stream has no edges
	CHECK(memcmp(b, "abcdef", 6) == 0);
	CHECK_ERR(recv(s[1], b, 1, MSG_DONTWAIT), EAGAIN);
	CHECK_EQ(write(s[1], "back", 4), 4);
	CHECK_EQ(read(s[0], b, 32), 4);
	CHECK_EQ(shutdown(s[0], SHUT_WR), 0);
	CHECK_EQ(read(s[1], b, 32), 0);
	signal(SIGPIPE, SIG_IGN);
	CHECK_ERR(write(s[0], "x", 1), EPIPE);
	close(s[0]);
	CHECK_ERR(send(s[1], "x", 1, MSG_NOSIGNAL), EPIPE);
	close(s[1]);
	CHECK_ERR(socketpair(AF_UNIX, 99, 0, s), EINVAL);
	CHECK_ERR(socketpair(AF_UNIX, SOCK_STREAM, 99, s), EPROTONOSUPPORT);
	CHECK_ERR(send(0x3fff, "x", 1, 0), EBADF);
	CHECK_ERR(send(open("/dev/null", O_RDWR), "x", 1, 0), ENOTSOCK);
}

static void test_packets(void)
{
	static const int types[] = {SOCK_DGRAM, SOCK_SEQPACKET};

	for (int i = 0; i < 2; i++) {
		int s[2];
		char b[32];
		CHECK_EQ(socketpair(AF_UNIX, types[i], 0, s), 0);
		CHECK_EQ(send(s[0], "one", 3, 0), 3);
		CHECK_EQ(send(s[0], "", 0, 0), 0);
		CHECK_EQ(send(s[0], "three", 5, 0), 5);
		CHECK_EQ(recv(s[1], b, 32, 0), 3);
		CHECK_EQ(recv(s[1], b, 32, 0), 0);
		struct iovec v = {b, 2};
		struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
		CHECK_EQ(recvmsg(s[1], &m, 0), 2);
		CHECK(m.msg_flags & MSG_TRUNC);
		close(s[0]), close(s[1]);
	}
}

static void test_passing_descriptors(void)
{
	int s[2], p[2];
	char control[CMSG_SPACE(sizeof(int))] = {0}, b[4];
	struct iovec v = {"x", 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0 && pipe(p) == 0);
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &p[1], sizeof(int));
	CHECK_EQ(sendmsg(s[0], &m, 0), 1);
	close(p[1]);
	memset(control, 0, sizeof control);
	v.iov_base = b;
	m.msg_controllen = sizeof control;
	CHECK_EQ(recvmsg(s[1], &m, MSG_CMSG_CLOEXEC), 1);
	c = CMSG_FIRSTHDR(&m);
	CHECK(c && c->cmsg_type == SCM_RIGHTS);
	int fd;
	memcpy(&fd, CMSG_DATA(c), sizeof fd);
	CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(write(fd, "y", 1), 1);
	close(fd);
	CHECK_EQ(read(p[0], b, 4), 1);
	CHECK_EQ(read(p[0], b, 4), 0); // all writers are gone
	close(p[0]), close(s[0]), close(s[1]);
}

static void test_credentials(void)
{
	int s[2];
	struct ucred u;
	socklen_t n = sizeof u;

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	CHECK_EQ(getsockopt(s[0], SOL_SOCKET, SO_PEERCRED, &u, &n), 0);
	CHECK(u.pid == getpid() && u.uid == getuid() && u.gid == getgid());
	int one = 1, type;
	n = sizeof type;
	CHECK_EQ(getsockopt(s[0], SOL_SOCKET, SO_TYPE, &type, &n), 0);
	CHECK_EQ(type, SOCK_STREAM);
	CHECK_EQ(setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &one, sizeof one), 0);
	CHECK_EQ(write(s[0], "x", 1), 1);
	char control[CMSG_SPACE(sizeof u)], b;
	struct iovec v = {&b, 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	CHECK_EQ(recvmsg(s[1], &m, 0), 1);
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	CHECK(c && c->cmsg_type == SCM_CREDENTIALS);
	memcpy(&u, CMSG_DATA(c), sizeof u);
	CHECK_EQ(u.pid, getpid());
	close(s[0]), close(s[1]);
}

static struct sockaddr_un address;
static socklen_t address_size;
static void *client(void *arg)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	char b[8];

	if (connect(fd, (struct sockaddr *)&address, address_size) != 0)
		return (void *)1;
	if (write(fd, "hi", 2) != 2 || read(fd, b, 8) != 2 || memcmp(b, "HI", 2))
		return (void *)2;
	close(fd);
	return arg;
}

static void serve(void)
{
	int l = socket(AF_UNIX, SOCK_STREAM, 0);
	pthread_t t;
	void *result = (void *)9;
	char b[8];

	CHECK(l >= 0);
	CHECK_EQ(bind(l, (struct sockaddr *)&address, address_size), 0);
	int second = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK_ERR(connect(second, (struct sockaddr *)&address, address_size), ECONNREFUSED);
	CHECK_ERR(bind(second, (struct sockaddr *)&address, address_size), EADDRINUSE);
	CHECK_EQ(listen(l, 5), 0);
	CHECK_EQ(pthread_create(&t, NULL, client, NULL), 0);
	struct sockaddr_un who;
	socklen_t n = sizeof who;
	int c = accept4(l, (struct sockaddr *)&who, &n, SOCK_CLOEXEC);
	CHECK(c >= 0);
	CHECK_EQ(n, 2); // a client without a name
	CHECK_EQ(read(c, b, 8), 2);
	CHECK_EQ(write(c, "HI", 2), 2);
	pthread_join(t, &result);
	CHECK_EQ((long)result, 0);
	CHECK_EQ(read(c, b, 8), 0);
	n = sizeof who;
	CHECK_EQ(getsockname(c, (struct sockaddr *)&who, &n), 0);
	CHECK(n == address_size && memcmp(&who, &address, n) == 0);
	close(c), close(l), close(second);
}

static void test_abstract_name(void)
{
	address.sun_family = AF_UNIX;
	memcpy(address.sun_path, "\0abstract\0name", 14);
	address_size = offsetof(struct sockaddr_un, sun_path) + 14;
	serve();
}

static void test_file_name(void)
{
	snprintf(address.sun_path, sizeof address.sun_path, "/tmp/socket-%d", getpid());
	address_size = offsetof(struct sockaddr_un, sun_path) + strlen(address.sun_path) + 1;
	serve();
	if (check_failed)
		return;
	struct stat st;
	CHECK_EQ(stat(address.sun_path, &st), 0);
	CHECK(S_ISSOCK(st.st_mode));
	CHECK_EQ(unlink(address.sun_path), 0);
}

TESTS({"stream", test_stream}, {"packets", test_packets},
      {"passing-descriptors", test_passing_descriptors}, {"credentials", test_credentials},
      {"abstract-name", test_abstract_name}, {"file-name", test_file_name})
