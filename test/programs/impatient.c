// Waits for a server that doesn't answer end for whoever is killed. The argument is a file that blocks who reads
// it: one of a 9p server that is that slow, or a FIFO. At its end the program is killed by SIGALRM.
#include "check.h"
#include <sys/wait.h>

static void read_for_ever(const char *path, int ready)
{
	static char piece[64 << 10];

	if (write(ready, "", 1) != 1)
		_exit(1);
	int fd = open(path, O_RDONLY);
	for (off_t at = 0;; at += 1 << 20) {
		if (fd < 0)
			_exit(2);
		pread(fd, piece, sizeof piece, at);
	}
}

static void map_for_ever(const char *path, int ready)
{
	if (write(ready, "", 1) != 1)
		_exit(1);
	int fd = open(path, O_RDONLY);
	volatile char *p = mmap(NULL, 8 << 20, PROT_READ, MAP_PRIVATE, fd, 0);
	for (int at = 0;; at += 1 << 20)
		(void)p[at];
}

int main(int argc, char **argv)
{
	void (*ways[])(const char *, int) = { read_for_ever, map_for_ever };

	if (argc != 2)
		return 2;
	for (int i = 0; i < 2; i++) {
		int ready[2], status;
		char c;
		if (pipe(ready))
			return 3;
		pid_t child = fork();
		if (child == 0)
			ways[i](argv[1], ready[1]);
		if (read(ready[0], &c, 1) != 1)
			return 4;
		sleep_ms(300); // mostly it is blocked then, and otherwise soon
		int64_t before = now_ns(CLOCK_MONOTONIC);
		kill(child, i == 0 ? SIGKILL : SIGTERM);
		if (waitpid(child, &status, 0) != child || !WIFSIGNALED(status))
			return 5;
		if (now_ns(CLOCK_MONOTONIC) - before > 60000000000)
			return 6;
		printf("child %d is dead\n", i);
		fflush(stdout);
	}
	alarm(1);
	int out = open("/dev/null", O_WRONLY);
	read_for_ever(argv[1], out);
}
