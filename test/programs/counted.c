// Runs each line of a file by bash, and tells which of them leaves something behind in the kernel: frames of programs,
// of page tables or of files' pages, threads, fids of 9p. What is kept for its next use alone is given back before
// the count. "counted: ok" is the last line if nothing is left.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// What is counted, and how much more it may be than before: the kernel keeps frames for messages.
static const struct {
	const char *name;
	long long spare;
} counted[] = {
	{"threads", 0},	       {"memory_program", 0},  {"memory_page_cache", 0},
	{"memory_page_tables", 0}, {"memory_kernel_other", 256 << 10}, {"9p_fids_used", 0}, {"9p_requests_waiting", 0},
};
enum { kinds = sizeof counted / sizeof *counted };

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text)) {
		perror(path);
		exit(1);
	}
	close(fd);
}

static void count(long long values[kinds])
{
	static char text[8192];
	int fd = open("/proc/elver/counters", O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

	if (n <= 0) {
		perror("/proc/elver/counters");
		exit(1);
	}
	text[n] = 0;
	close(fd);
	for (int i = 0; i < kinds; i++) {
		size_t length = strlen(counted[i].name);
		const char *line = text;

		while (line && (strncmp(line, counted[i].name, length) != 0 || line[length] != ' '))
			line = (line = strchr(line, '\n')) ? line + 1 : NULL;
		if (!line) {
			fprintf(stderr, "/proc/elver/counters has no %s\n", counted[i].name);
			exit(1);
		}
		values[i] = atoll(line + length + 1);
	}
}

static int more(const long long before[kinds], const long long now[kinds])
{
	for (int i = 0; i < kinds; i++)
		if (now[i] > before[i] + counted[i].spare)
			return 1;
	return 0;
}

// What ends in the background has some time.
static void settle(const long long before[kinds], long long now[kinds])
{
	for (int i = 0; i < 300; i++) {
		put("/proc/sys/vm/drop_caches", "3");
		count(now);
		if (!more(before, now))
			return;
		nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
	}
}

int main(int argc, char **argv)
{
	static long long before[kinds], now[kinds];
	static char script[16384];
	int failed = 0, fd = open(argc == 2 ? argv[1] : "", O_RDONLY);

	setvbuf(stdout, NULL, _IONBF, 0);
	if (fd < 0 || read(fd, script, sizeof script - 1) <= 0) {
		perror("the script");
		return 2;
	}
	close(fd);
	for (int i = 0; i < 3; i++) { // the first time takes frames of this program, too
		count(before);
		settle(before, now);
	}
	count(before);
	for (const char *line = strtok(script, "\n"); line; line = strtok(NULL, "\n")) {
		int status = 0;
		pid_t child = fork(), ended;

		if (child == 0) {
			execl("/bin/bash", "bash", "-c", line, NULL);
			_exit(127);
		}
		while ((ended = wait(&status)) != child && ended > 0)
			;
		if (status != 0) {
			printf("counted: %s: status %#x\n", line, status);
			failed = 1;
		}
		while (wait(NULL) > 0) // and whom it left to the first process
			;
		settle(before, now);
		if (!more(before, now))
			continue;
		failed = 1;
		printf("counted: %s leaves", line);
		for (int k = 0; k < kinds; k++)
			if (now[k] > before[k] + counted[k].spare)
				printf(" %lld more of %s", now[k] - before[k], counted[k].name);
		printf("\n");
		memcpy(before, now, sizeof before);
	}
	if (!failed)
		printf("counted: ok\n");
	return failed;
}
