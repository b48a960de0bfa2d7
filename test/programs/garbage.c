// What the kernel held for connections and pipes that are gone makes room for programs.
#include "check.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>

static size_t free_bytes(void)
{
	struct sysinfo s;

	if (sysinfo(&s) != 0)
		return 0;
	return s.freeram * (size_t)s.mem_unit;
}

// hold has the kernel hold as many bytes as it likes for connections whose other end doesn't read, and ends.
static void hold(void)
{
	static char piece[64 << 10];
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof a;
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	CHECK_EQ(bind(listener, (void *)&a, sizeof a), 0);
	CHECK_EQ(listen(listener, 100), 0);
	CHECK_EQ(getsockname(listener, (void *)&a, &n), 0);
	for (int i = 0; i < 100; i++) {
		int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		CHECK(s >= 0);
		connect(s, (void *)&a, sizeof a);
		CHECK(accept(listener, NULL, NULL) >= 0);
		while (write(s, piece, sizeof piece) > 0)
			;
	}
}

static void test_room(void)
{
	enum { PAGE = 4096, SPARED = 24 << 20, MOST = 200 << 20 };
	size_t before = free_bytes(), want = before - SPARED;
	int status;

	CHECK(before > 2 * SPARED);
	if (want > MOST)
		want = MOST;
	for (int round = 0; round < 3; round++) {
		pid_t child = fork();
		CHECK(child >= 0);
		if (child == 0) {
			hold();
			fflush(stdout);
			_exit(check_failed);
		}
		CHECK_EQ(waitpid(child, &status, 0), child);
		CHECK_EQ(status, 0);
		char *p = mmap(NULL, want, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		CHECK(p != MAP_FAILED);
		for (size_t i = 0; i < want; i += PAGE)
			p[i] = i / PAGE;
		for (size_t i = 0; i < want; i += PAGE)
			CHECK_EQ((unsigned char)p[i], i / PAGE % 256);
		CHECK_EQ(munmap(p, want), 0);
	}
}

TESTS({"room", test_room})
