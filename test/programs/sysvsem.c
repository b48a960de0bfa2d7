// System V semaphores.
#include "check.h"
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/wait.h>

union semun {
	int val;
	struct semid_ds *buf;
	unsigned short *array;
	struct seminfo *info;
};

static int ctl(int id, int n, int command, int value)
{
	return semctl(id, n, command, (union semun){.val = value});
}

static int op(int id, int n, int d, int flags)
{
	struct sembuf b = {n, d, flags};

	return semop(id, &b, 1);
}

// wait_for waits until somebody waits for semaphore n in the way that command counts.
static void wait_for(int id, int n, int command)
{
	for (int i = 0; i < 2000 && ctl(id, n, command, 0) == 0; i++)
		sleep_ms(5);
}

static void test_errors(void)
{
	key_t key = 0x5e110000 + getpid();
	struct semid_ds ds;
	struct sembuf ops[501] = {{0}};

	CHECK_ERR(semget(key, 1, 0600), ENOENT);
	CHECK_ERR(semget(key, 0, IPC_CREAT | 0600), EINVAL);
	CHECK_ERR(semget(key, -1, IPC_CREAT | 0600), EINVAL);
	CHECK_ERR(semget(IPC_PRIVATE, 32001, 0600), EINVAL);
	int id = semget(key, 3, IPC_CREAT | IPC_EXCL | 0640);
	CHECK(id >= 0);
	CHECK_ERR(semget(key, 3, IPC_CREAT | IPC_EXCL | 0600), EEXIST);
	CHECK_ERR(semget(key, 4, 0600), EINVAL);
	CHECK_EQ(semget(key, 0, 0), id);
	CHECK_ERR(semop(id, ops, 0), EINVAL);
	CHECK_ERR(semop(-1, ops, 1), EINVAL);
	CHECK_ERR(semop(id, ops, 501), E2BIG);
	CHECK_ERR(syscall(SYS_semop, id, 8, 1), EFAULT);
	CHECK_ERR(syscall(SYS_semtimedop, id, ops, 1, 8), EFAULT);
	CHECK_ERR(syscall(SYS_semtimedop, id, ops, 1, &(struct timespec){0, 1000000000}), EINVAL);
	CHECK_ERR(op(id, 3, 1, 0), EFBIG);
	CHECK_ERR(op(id + 32768, 0, 1, 0), EINVAL);
	CHECK_ERR(op(id, 0, -1, IPC_NOWAIT), EAGAIN);
	CHECK_EQ(ctl(id, 1, SETVAL, 32767), 0);
	CHECK_ERR(op(id, 1, 1, 0), ERANGE);
	CHECK_ERR(op(id, 1, 0, IPC_NOWAIT), EAGAIN);
	CHECK_ERR(ctl(id, 1, SETVAL, 32768), ERANGE);
	CHECK_ERR(ctl(id, 1, SETVAL, -1), ERANGE);
	CHECK_ERR(ctl(id, 3, SETVAL, 0), EINVAL);
	CHECK_ERR(ctl(id, -1, GETVAL, 0), EINVAL);
	CHECK_ERR(ctl(id, 0, 99, 0), EINVAL);
	CHECK_ERR(ctl(-1, 0, GETVAL, 0), EINVAL);
	CHECK_ERR(syscall(SYS_semctl, id, 0, GETALL, 8), EFAULT);
	CHECK_ERR(syscall(SYS_semctl, id, 0, SETALL, 8), EFAULT);
	CHECK_ERR(syscall(SYS_semctl, id, 0, IPC_STAT, 8), EFAULT);
	unsigned short all[3] = {1, 40000, 2};
	CHECK_ERR(semctl(id, 0, SETALL, (union semun){.array = all}), ERANGE);
	CHECK_EQ(ctl(id, 0, GETVAL, 0), 0);
	CHECK_EQ(semctl(id, 0, IPC_RMID), 0);
	CHECK_ERR(semctl(id, 0, IPC_STAT, (union semun){.buf = &ds}), EINVAL);
	CHECK_ERR(op(id, 0, 1, 0), EINVAL);
}

static void test_values(void)
{
	int id = semget(IPC_PRIVATE, 3, 0640);
	struct semid_ds ds;
	unsigned short all[3] = {5, 6, 7};

	CHECK_EQ(semctl(id, 0, SETALL, (union semun){.array = all}), 0);
	// All of a call's operations happen, or none; each sees what those before it did.
	struct sembuf none[3] = {{0, -5, 0}, {1, -6, 0}, {2, -8, IPC_NOWAIT}};
	CHECK_ERR(semop(id, none, 3), EAGAIN);
	struct sembuf ops[4] = {{0, -5, 0}, {0, 0, 0}, {0, 2, 0}, {2, 1, 0}};
	CHECK_EQ(semop(id, ops, 4), 0);
	CHECK_EQ(semctl(id, 0, GETALL, (union semun){.array = all}), 0);
	CHECK(all[0] == 2 && all[1] == 6 && all[2] == 8);
	CHECK_EQ(ctl(id, 0, GETPID, 0), getpid());
	CHECK_EQ(ctl(id, 0, GETNCNT, 0), 0);
	CHECK_EQ(semctl(id, 0, IPC_STAT, (union semun){.buf = &ds}), 0);
	CHECK(ds.sem_nsems == 3 && ds.sem_perm.mode == 0640 && ds.sem_perm.uid == geteuid() && ds.sem_otime > 0 && ds.sem_ctime > 0);
	ds.sem_perm.mode = 0600;
	CHECK_EQ(semctl(id, 0, IPC_SET, (union semun){.buf = &ds}), 0);
	CHECK_EQ(semctl(id, 0, IPC_STAT, (union semun){.buf = &ds}), 0);
	CHECK_EQ(ds.sem_perm.mode, 0600);
	struct seminfo info;
	CHECK(semctl(0, 0, IPC_INFO, (union semun){.info = &info}) >= 0);
	CHECK(info.semmsl == 32000 && info.semopm == 500 && info.semvmx == 32767);
	int highest = semctl(0, 0, SEM_INFO, (union semun){.info = &info}), found = 0;
	CHECK(highest >= 0 && info.semusz >= 1 && info.semaem >= 3);
	for (int i = 0; i <= highest; i++)
		found |= semctl(i, 0, SEM_STAT, (union semun){.buf = &ds}) == id;
	CHECK(found);
	CHECK_EQ(semctl(id, 0, IPC_RMID), 0);
}

static int set;
static volatile int result, error;

static void *waiter(void *arg)
{
	struct sembuf *b = arg;

	result = semop(set, b, 1);
	error = errno;
	return NULL;
}

static void test_waiting(void)
{
	pthread_t thread;
	struct sembuf down = {0, -2, 0}, zero = {1, 0, 0};

	set = semget(IPC_PRIVATE, 2, 0600);
	CHECK_EQ(pthread_create(&thread, NULL, waiter, &down), 0);
	wait_for(set, 0, GETNCNT);
	CHECK_EQ(ctl(set, 0, GETNCNT, 0), 1);
	CHECK_EQ(ctl(set, 0, GETZCNT, 0), 0);
	CHECK_EQ(op(set, 0, 1, 0), 0);
	sleep_ms(20);
	CHECK_EQ(ctl(set, 0, GETVAL, 0), 1); // not enough for it
	CHECK_EQ(op(set, 0, 1, 0), 0);
	pthread_join(thread, NULL);
	CHECK(result == 0 && ctl(set, 0, GETVAL, 0) == 0);
	CHECK_EQ(ctl(set, 1, SETVAL, 3), 0);
	CHECK_EQ(pthread_create(&thread, NULL, waiter, &zero), 0);
	wait_for(set, 1, GETZCNT);
	CHECK_EQ(ctl(set, 1, GETZCNT, 0), 1);
	CHECK_EQ(op(set, 1, -3, 0), 0);
	pthread_join(thread, NULL);
	CHECK_EQ(result, 0);
	CHECK_EQ(pthread_create(&thread, NULL, waiter, &down), 0);
	wait_for(set, 0, GETNCNT);
	CHECK_EQ(semctl(set, 0, IPC_RMID), 0);
	pthread_join(thread, NULL);
	CHECK(result == -1 && error == EIDRM);
}

static void on_signal(int sig)
{
	(void)sig;
}

static void test_timeouts(void)
{
	int id = semget(IPC_PRIVATE, 1, 0600);
	struct sembuf down = {0, -1, 0};
	struct timespec limit = {0, 30000000};
	int64_t start = now_ns(CLOCK_MONOTONIC);

	CHECK_ERR(semtimedop(id, &down, 1, &limit), EAGAIN);
	CHECK(now_ns(CLOCK_MONOTONIC) - start >= 30000000);
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &(struct itimerval){.it_value = {0, 20000}}, NULL);
	CHECK_ERR(semop(id, &down, 1), EINTR); // never started over
	CHECK_EQ(ctl(id, 0, GETNCNT, 0), 0);
	CHECK_EQ(semctl(id, 0, IPC_RMID), 0);
}

static void *undoer(void *arg)
{
	op(*(int *)arg, 1, 5, SEM_UNDO);
	return NULL;
}

static void test_undo(void)
{
	int id = semget(IPC_PRIVATE, 3, 0600), status;
	pthread_t thread;

	CHECK_EQ(ctl(id, 0, SETVAL, 10), 0);
	pid_t pid = fork();
	if (pid == 0) {
		int bad = op(id, 0, -4, SEM_UNDO) || op(id, 0, 1, SEM_UNDO) || op(id, 2, 3, SEM_UNDO);
		if (fork() == 0) // undoes nothing: it has a list of its own
			_exit(op(id, 0, -1, 0));
		wait(NULL);
		bad |= ctl(id, 2, SETVAL, 1) != 0; // which forgets what there was to undo
		pthread_create(&thread, NULL, undoer, &id);
		pthread_join(thread, NULL);
		bad |= ctl(id, 1, GETVAL, 0) != 5; // shared by the threads
		_exit(bad | (ctl(id, 0, GETVAL, 0) != 6));
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	CHECK_EQ(ctl(id, 0, GETVAL, 0), 9);
	CHECK_EQ(ctl(id, 1, GETVAL, 0), 0);
	CHECK_EQ(ctl(id, 2, GETVAL, 0), 1);
	pid = fork();
	if (pid == 0) {
		op(id, 1, 3, SEM_UNDO);
		unshare(CLONE_SYSVSEM);
		_exit(ctl(id, 1, GETVAL, 0));
	}
	waitpid(pid, &status, 0);
	CHECK_EQ(status, 0);
	// Whoever waits gets what a killed process undoes.
	CHECK_EQ(ctl(id, 1, SETVAL, 1), 0);
	pid = fork();
	if (pid == 0) {
		op(id, 1, -1, SEM_UNDO);
		pause();
	}
	while (ctl(id, 1, GETVAL, 0) != 0)
		sleep_ms(5);
	kill(pid, SIGKILL);
	CHECK_EQ(op(id, 1, -1, 0), 0);
	waitpid(pid, &status, 0);
	CHECK_EQ(semctl(id, 0, IPC_RMID), 0);
}

static void test_rights(void)
{
	int id = semget(0x5e220000 + getpid(), 1, IPC_CREAT | 0604), status;
	pid_t pid = 0;

	if (geteuid() == 0 && (pid = fork()) == 0) {
		struct semid_ds ds;

		if (setresgid(4242, 4242, 4242) || setgroups(0, NULL) || setresuid(4242, 4242, 4242))
			_exit(9);
		int bad = ctl(id, 0, GETVAL, 0) != 0;
		bad |= (op(id, 0, 1, 0) != -1 || errno != EACCES) << 1;
		bad |= (ctl(id, 0, SETVAL, 1) != -1 || errno != EACCES) << 2;
		bad |= (semctl(id, 0, IPC_RMID) != -1 || errno != EPERM) << 3;
		bad |= (semget(0x5e220000 + getppid(), 1, 0600) != -1 || errno != EACCES) << 4;
		bad |= (semctl(id, 0, IPC_STAT, (union semun){.buf = &ds}) != 0) << 5;
		_exit(bad);
	} else if (geteuid() == 0) {
		waitpid(pid, &status, 0);
		CHECK_EQ(status, 0);
	}
	CHECK_EQ(semctl(id, 0, IPC_RMID), 0);
}

static void test_contention(void)
{
	enum { processes = 8, rounds = 300 };
	int id = semget(IPC_PRIVATE, 1, 0600), status;
	volatile int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	ctl(id, 0, SETVAL, 1);
	for (int i = 0; i < processes; i++)
		if (fork() == 0) {
			for (int j = 0; j < rounds; j++) {
				op(id, 0, -1, SEM_UNDO);
				int v = *shared;
				if (j % 16 == 0)
					sched_yield();
				*shared = v + 1;
				op(id, 0, 1, SEM_UNDO);
			}
			_exit(0);
		}
	for (int i = 0; i < processes; i++) {
		wait(&status);
		CHECK_EQ(status, 0);
	}
	CHECK_EQ(*shared, processes * rounds);
	CHECK_EQ(ctl(id, 0, GETVAL, 0), 1);
	CHECK_EQ(semctl(id, 0, IPC_RMID), 0);
}

static void test_proc(void)
{
	int id = semget(0x5e330001, 7, IPC_CREAT | 0600), got = -1, n = 0, key;
	char line[200];
	FILE *f = fopen("/proc/sysvipc/sem", "r");

	CHECK(f != NULL);
	CHECK(fgets(line, sizeof line, f) && strstr(line, "semid"));
	while (got != id && fgets(line, sizeof line, f))
		sscanf(line, "%d %d %*o %d", &key, &got, &n);
	fclose(f);
	CHECK(got == id && n == 7 && key == 0x5e330001);
	int a, b, c, d;
	f = fopen("/proc/sys/kernel/sem", "r");
	CHECK(f && fscanf(f, "%d %d %d %d", &a, &b, &c, &d) == 4);
	fclose(f);
	CHECK(a == 32000 && c == 500 && d == 32000);
	CHECK_EQ(semctl(id, 0, IPC_RMID), 0);
}

TESTS({"errors", test_errors}, {"values", test_values}, {"waiting", test_waiting}, {"timeouts", test_timeouts},
      {"undo", test_undo}, {"rights", test_rights}, {"contention", test_contention}, {"proc", test_proc})
