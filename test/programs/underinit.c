// A program under an init that isn't itself: elver.init=1. It passes on no other system.
#include "check.h"
#include <sys/wait.h>

static volatile int terminated;

static void on_term(int sig)
{
	(void)sig;
	terminated++;
}

static void test_numbers(void)
{
	CHECK_EQ(getpid(), 2);
	CHECK_EQ(getppid(), 1);
	CHECK_EQ(getsid(0), 2);
	CHECK_EQ(getpgrp(), 2);
}

// test_orphans: they become init's children, and leave no zombie.
static void test_orphans(void)
{
	int fds[2], parent = 0;
	pid_t orphan = 0;
	char path[40];

	CHECK_EQ(pipe(fds), 0);
	if (fork() == 0) {
		pid_t self = getpid();

		if (fork() == 0) {
			int said[2];

			while (getppid() == self)
				sleep_ms(5);
			said[0] = getppid(), said[1] = getpid();
			write(fds[1], said, sizeof said);
			_exit(3);
		}
		_exit(0);
	}
	wait(NULL);
	close(fds[1]);
	CHECK_EQ(read(fds[0], &parent, sizeof parent), sizeof parent);
	CHECK_EQ(read(fds[0], &orphan, sizeof orphan), sizeof orphan);
	CHECK_EQ(parent, 1);
	sprintf(path, "/proc/%d", orphan);
	for (int i = 0; i < 1000 && access(path, F_OK) == 0; i++)
		sleep_ms(5);
	CHECK(access(path, F_OK) == -1);
	CHECK_ERR(wait(NULL), ECHILD);
}

// test_zombies: those that were there before go with their parent.
static void test_zombies(void)
{
	pid_t orphan = 0;
	int fds[2];

	CHECK_EQ(pipe(fds), 0);
	if (fork() == 0) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(0);
		waitid(P_PID, pid, &(siginfo_t){0}, WEXITED | WNOWAIT);
		write(fds[1], &pid, sizeof pid);
		_exit(0);
	}
	wait(NULL);
	CHECK_EQ(read(fds[0], &orphan, sizeof orphan), sizeof orphan);
	CHECK_ERR(kill(orphan, 0), ESRCH);
}

static void test_signals(void)
{
	signal(SIGTERM, on_term);
	CHECK_EQ(kill(1, SIGKILL), 0);
	CHECK_EQ(kill(1, SIGSTOP), 0);
	CHECK_EQ(kill(1, SIGCHLD), 0);
	CHECK_EQ(kill(1, SIGTERM), 0); // init passes it on
	for (int i = 0; i < 1000 && !terminated; i++)
		sleep_ms(5);
	CHECK_EQ(terminated, 1);
	CHECK_ERR(kill(-1, SIGTERM), ESRCH); // to everybody but init and the caller
}

static void test_proc(void)
{
	char text[300];
	FILE *f = fopen("/proc/1/status", "r");

	CHECK(f && fgets(text, sizeof text, f) && !strcmp(text, "Name:\tinit\n"));
	fclose(f);
	f = fopen("/proc/1/cmdline", "r");
	CHECK(f && fgets(text, sizeof text, f) == NULL);
	fclose(f);
	CHECK(readlink("/proc/1/exe", text, sizeof text) == -1);
	CHECK(access("/proc/1/fd", F_OK) == 0);
	f = fopen("/proc/1/maps", "r");
	CHECK(f && fgets(text, sizeof text, f) == NULL);
	fclose(f);
	f = fopen("/proc/1/stat", "r");
	CHECK(f && fgets(text, sizeof text, f) && !strncmp(text, "1 (init) S 0 1 1 ", 17));
	fclose(f);
}

TESTS({"numbers", test_numbers}, {"orphans", test_orphans}, {"zombies", test_zombies}, {"signals", test_signals}, {"proc", test_proc})
