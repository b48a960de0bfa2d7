// System V messages.
#include "check.h"
#include <pthread.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/wait.h>

#ifndef MSG_COPY // musl
#define MSG_COPY 040000
#endif

struct message {
	long type;
	char text[8192];
};

static int put(int q, long type, const char *text, int flags)
{
	struct message m = {type, {0}};

	strcpy(m.text, text);
	return msgsnd(q, &m, strlen(text), flags);
}

// get returns the text of a message of that kind, or NULL.
static const char *get(int q, long type, int flags)
{
	static struct message m;
	ssize_t n = msgrcv(q, &m, sizeof m.text, type, flags);

	if (n < 0)
		return NULL;
	m.text[n] = 0;
	return m.text;
}

#define CHECK_GET(q, type, flags, want)                           \
	do {                                                      \
		const char *got_ = get(q, type, flags);           \
		CHECK(got_ && !strcmp(got_, want));               \
	} while (0)

static void test_errors(void)
{
	key_t key = 0x35670000 + getpid();
	struct message m = {1, "x"};
	struct msqid_ds ds;

	CHECK_ERR(msgget(key, 0600), ENOENT);
	int q = msgget(key, IPC_CREAT | IPC_EXCL | 0600);
	CHECK(q >= 0);
	CHECK_ERR(msgget(key, IPC_CREAT | IPC_EXCL | 0600), EEXIST);
	CHECK_EQ(msgget(key, 0), q);
	CHECK_ERR(msgsnd(q, &m, 8193, 0), EINVAL);
	CHECK_ERR(msgsnd(q, &m, -1, 0), EINVAL);
	CHECK_ERR(msgsnd(-1, &m, 1, 0), EINVAL);
	m.type = 0;
	CHECK_ERR(msgsnd(q, &m, 1, 0), EINVAL);
	CHECK_ERR(syscall(SYS_msgsnd, q, 8, 1, 0), EFAULT);
	CHECK_ERR(msgrcv(q, &m, -1, 0, 0), EINVAL);
	CHECK_ERR(msgrcv(q, &m, 1, 0, IPC_NOWAIT), ENOMSG);
	CHECK_ERR(msgrcv(q, &m, 1, 0, MSG_COPY), EINVAL);
	CHECK_ERR(msgrcv(q, &m, 1, 0, MSG_COPY | MSG_EXCEPT | IPC_NOWAIT), EINVAL);
	CHECK_ERR(msgrcv(q, &m, 1, 0, MSG_COPY | IPC_NOWAIT), ENOMSG);
	CHECK_ERR(msgctl(q, 99, &ds), EINVAL);
	CHECK_ERR(msgctl(-1, IPC_STAT, &ds), EINVAL);
	CHECK_ERR(syscall(SYS_msgctl, q, IPC_STAT, 8), EFAULT);
	CHECK_ERR(msgsnd(q + 32768, (m.type = 1, &m), 1, 0), EINVAL);
	CHECK_EQ(msgctl(q, IPC_RMID, NULL), 0);
	CHECK_ERR(msgsnd(q, &m, 1, 0), EINVAL);
	CHECK_ERR(msgctl(q, IPC_RMID, NULL), EINVAL);
}

static void test_types(void)
{
	int q = msgget(IPC_PRIVATE, 0600);
	struct message m;

	CHECK_EQ(put(q, 3, "three", 0), 0);
	CHECK_EQ(put(q, 1, "one", 0), 0);
	CHECK_EQ(put(q, 2, "two", 0), 0);
	CHECK_EQ(put(q, 1, "one more", 0), 0);
	CHECK_GET(q, 2, MSG_COPY | IPC_NOWAIT, "two"); // by index, and it stays
	CHECK_GET(q, 2, 0, "two");
	CHECK(get(q, 2, IPC_NOWAIT) == NULL && errno == ENOMSG);
	CHECK_GET(q, -3, 0, "one");      // the least type up to 3
	CHECK_GET(q, 3, MSG_EXCEPT, "one more");
	CHECK(get(q, -2, IPC_NOWAIT) == NULL && errno == ENOMSG);
	CHECK_ERR(msgrcv(q, &m, 2, 3, 0), E2BIG);
	CHECK_EQ(msgrcv(q, &m, 2, 3, MSG_NOERROR), 2);
	CHECK(m.type == 3 && !memcmp(m.text, "th", 2));
	CHECK_EQ(put(q, 7, "", 0), 0); // empty, but a message
	CHECK_EQ(msgrcv(q, &m, 0, LONG_MIN, 0), 0);
	CHECK_EQ(m.type, 7);
	CHECK(get(q, 0, IPC_NOWAIT) == NULL && errno == ENOMSG);
	CHECK_EQ(msgctl(q, IPC_RMID, NULL), 0);
}

static void test_limits(void)
{
	int q = msgget(IPC_PRIVATE, 0640);
	struct message m = {5, {0}};
	struct msqid_ds ds;
	struct msginfo info;

	CHECK_EQ(msgsnd(q, &m, 8192, 0), 0);
	CHECK_EQ(msgsnd(q, &m, 8192, IPC_NOWAIT), 0);
	CHECK_ERR(msgsnd(q, &m, 1, IPC_NOWAIT), EAGAIN);
	CHECK_EQ(msgctl(q, IPC_STAT, &ds), 0);
	CHECK(ds.msg_qnum == 2 && ds.msg_qbytes == 16384 && ds.__msg_cbytes == 16384 && ds.msg_lspid == getpid() && ds.msg_lrpid == 0);
	CHECK(ds.msg_stime > 0 && ds.msg_rtime == 0 && ds.msg_perm.mode == 0640);
	ds.msg_qbytes = 16000;
	CHECK_EQ(msgctl(q, IPC_SET, &ds), 0);
	CHECK_EQ(msgrcv(q, &m, 8192, 0, 0), 8192);
	CHECK_ERR(msgsnd(q, &m, 8192, IPC_NOWAIT), EAGAIN);
	CHECK_EQ(msgsnd(q, &m, 7000, IPC_NOWAIT), 0);
	CHECK(msgctl(0, IPC_INFO, (void *)&info) >= 0 && info.msgmax == 8192 && info.msgmnb == 16384);
	int highest = msgctl(0, MSG_INFO, (void *)&info), found = 0;
	CHECK(highest >= 0 && info.msgpool >= 1 && info.msgmap >= 2 && info.msgtql >= 15192);
	for (int i = 0; i <= highest; i++)
		found |= msgctl(i, MSG_STAT, &ds) == q;
	CHECK(found);
	CHECK_EQ(msgctl(q, IPC_RMID, NULL), 0);
}

static int queue;
static volatile int error;

static void *reader(void *arg)
{
	error = get(queue, (long)arg, 0) ? 0 : errno;
	return NULL;
}

static void *writer(void *arg)
{
	error = put(queue, 9, arg, 0) ? errno : 0;
	return NULL;
}

static void on_signal(int sig)
{
	(void)sig;
}

static void test_waiting(void)
{
	pthread_t thread;
	struct message m = {1, {0}};

	queue = msgget(IPC_PRIVATE, 0600);
	error = -1;
	pthread_create(&thread, NULL, reader, (void *)4L);
	sleep_ms(20);
	CHECK_EQ(put(queue, 3, "not this", 0), 0);
	sleep_ms(20);
	CHECK_EQ(error, -1);
	CHECK_EQ(put(queue, 4, "this", 0), 0);
	pthread_join(thread, NULL);
	CHECK_EQ(error, 0);
	CHECK_GET(queue, 0, 0, "not this");

	CHECK_EQ(msgsnd(queue, &m, 8192, 0), 0);
	CHECK_EQ(msgsnd(queue, &m, 8192, 0), 0);
	error = -1;
	pthread_create(&thread, NULL, writer, "late");
	sleep_ms(20);
	CHECK_EQ(error, -1);
	CHECK_EQ(msgrcv(queue, &m, 8192, 0, 0), 8192);
	pthread_join(thread, NULL);
	CHECK_EQ(error, 0);
	CHECK_GET(queue, 9, 0, "late");
	CHECK_EQ(msgrcv(queue, &m, 8192, 0, 0), 8192);

	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &(struct itimerval){.it_value = {0, 20000}}, NULL);
	CHECK_ERR(msgrcv(queue, &m, 1, 0, 0), EINTR); // never started over
	pthread_create(&thread, NULL, reader, (void *)1L);
	sleep_ms(20);
	CHECK_EQ(msgctl(queue, IPC_RMID, NULL), 0);
	pthread_join(thread, NULL);
	CHECK_EQ(error, EIDRM);
	queue = msgget(IPC_PRIVATE, 0600);
	CHECK_EQ(msgsnd(queue, &m, 8192, 0), 0);
	CHECK_EQ(msgsnd(queue, &m, 8192, 0), 0);
	pthread_create(&thread, NULL, writer, "never");
	sleep_ms(20);
	CHECK_EQ(msgctl(queue, IPC_RMID, NULL), 0);
	pthread_join(thread, NULL);
	CHECK_EQ(error, EIDRM);
}

static void test_processes(void)
{
	enum { processes = 4, rounds = 200 };
	int q = msgget(IPC_PRIVATE, 0600), status;
	struct message m;

	for (int i = 1; i <= processes; i++)
		if (fork() == 0) {
			struct message o = {i, {0}};
			for (int j = 0; j < rounds; j++) {
				memset(o.text, j, 500);
				if (msgsnd(q, &o, 100 + j, 0))
					_exit(1);
			}
			_exit(0);
		}
	int next[processes + 1] = {0};
	for (int i = 0; i < processes * rounds; i++) {
		ssize_t n = msgrcv(q, &m, sizeof m.text, 0, 0);
		CHECK(n >= 100 && m.type >= 1 && m.type <= processes);
		CHECK(n == 100 + next[m.type] && m.text[n - 1] == (char)next[m.type]);
		next[m.type]++;
	}
	for (int i = 0; i < processes; i++) {
		wait(&status);
		CHECK_EQ(status, 0);
	}
	CHECK_EQ(msgctl(q, IPC_RMID, NULL), 0);
}

static void test_proc(void)
{
	int q = msgget(0x35680001, IPC_CREAT | 0600), got = -1, key, bytes, n;
	char line[300];
	FILE *f;

	CHECK_EQ(put(q, 1, "12345", 0), 0);
	f = fopen("/proc/sysvipc/msg", "r");
	CHECK(f && fgets(line, sizeof line, f) && strstr(line, "msqid"));
	while (got != q && fgets(line, sizeof line, f))
		sscanf(line, "%d %d %*o %d %d", &key, &got, &bytes, &n);
	fclose(f);
	CHECK(got == q && key == 0x35680001 && bytes == 5 && n == 1);
	f = fopen("/proc/sys/kernel/msgmnb", "r");
	CHECK(f && fscanf(f, "%d", &n) == 1 && n == 16384);
	fclose(f);
	f = fopen("/proc/sysvipc/shm", "r");
	CHECK(f && fgets(line, sizeof line, f) && strstr(line, "shmid"));
	fclose(f);
	CHECK_EQ(msgctl(q, IPC_RMID, NULL), 0);
}

TESTS({"errors", test_errors}, {"types", test_types}, {"limits", test_limits}, {"waiting", test_waiting},
      {"processes", test_processes}, {"proc", test_proc})
