// System V shared memory.
#include "check.h"
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/wait.h>

static void test_errors(void)
{
	struct shmid_ds ds;
	key_t key = 0x45110000 + getpid();
	int id;

	CHECK_ERR(shmget(IPC_PRIVATE, 0, 0600), EINVAL);
	CHECK_ERR(shmget(key, 100, 0600), ENOENT);
	id = shmget(key, 5000, IPC_CREAT | IPC_EXCL | 0600);
	CHECK(id >= 0);
	CHECK_ERR(shmget(key, 5000, IPC_CREAT | IPC_EXCL | 0600), EEXIST);
	CHECK_ERR(shmget(key, 5001, 0600), EINVAL);
	CHECK_EQ(shmget(key, 0, 0), id);
	CHECK_ERR(shmctl(-1, IPC_STAT, &ds), EINVAL);
	CHECK_ERR(shmctl(id, 99, &ds), EINVAL);
	CHECK_ERR(syscall(SYS_shmctl, id, IPC_STAT, 8), EFAULT);
	CHECK_ERR((long)shmat(id, (void *)1, 0), EINVAL);
	CHECK_ERR((long)shmat(0x7fffffff, NULL, 0), EINVAL);
	CHECK_ERR(shmdt((void *)4096), EINVAL);
	CHECK_ERR(shmdt((void *)&ds), EINVAL);
	CHECK_EQ(shmctl(id, IPC_RMID, NULL), 0);
	CHECK(shmctl(id, IPC_STAT, &ds) == -1 && (errno == EINVAL || errno == EIDRM));
	CHECK_ERR(shmget(key, 100, 0600), ENOENT);
}

static void test_sharing(void)
{
	struct shmid_ds ds;
	int id = shmget(IPC_PRIVATE, 10000, 0640), status;
	char *a = shmat(id, NULL, 0), *b = shmat(id, NULL, SHM_RDONLY);

	CHECK(a != (void *)-1 && b != (void *)-1 && a != b);
	CHECK(a[0] == 0 && a[9999] == 0);
	strcpy(a + 4090, "across pages");
	CHECK(!strcmp(b + 4090, "across pages"));
	CHECK_EQ(shmctl(id, IPC_STAT, &ds), 0);
	CHECK(ds.shm_segsz == 10000 && ds.shm_nattch == 2 && ds.shm_cpid == getpid() && ds.shm_lpid == getpid());
	CHECK(ds.shm_perm.mode == 0640 && ds.shm_perm.uid == geteuid() && ds.shm_atime > 0 && ds.shm_dtime == 0);
	pid_t pid = fork();
	if (pid == 0) {
		strcpy(a, "from the child");
		_exit(shmctl(id, IPC_STAT, &ds) || ds.shm_nattch != 4 || shmdt(b));
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	CHECK(!strcmp(b, "from the child"));
	CHECK_ERR(mprotect(b, 4096, PROT_READ | PROT_WRITE), EACCES);
	CHECK_EQ(shmctl(id, IPC_RMID, NULL), 0); // it stays while it is mapped
	CHECK_EQ(shmctl(id, IPC_STAT, &ds), 0);
	CHECK_EQ(ds.shm_perm.mode, 0640 | SHM_DEST);
	char *c = shmat(id, NULL, 0);
	CHECK(c != (void *)-1 && !strcmp(c, "from the child"));
	CHECK_EQ(shmdt(a), 0);
	CHECK_EQ(shmdt(c), 0);
	CHECK_ERR(shmdt(a), EINVAL);
	CHECK_EQ(shmdt(b), 0);
	CHECK(shmctl(id, IPC_STAT, &ds) == -1);
}

static void test_placing(void)
{
	int id = shmget(IPC_PRIVATE, 8192, 0600);
	char *room = mmap(NULL, 1 << 16, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK_ERR((long)shmat(id, room, 0), EINVAL); // something is there
	CHECK((char *)shmat(id, room + 4096, SHM_REMAP) == room + 4096);
	room[4096] = 1;
	CHECK_EQ(munmap(room, 4096), 0);
	CHECK_EQ(mprotect(room + 8192, 4096, PROT_NONE), 0); // in two pieces now
	CHECK_EQ(shmdt(room + 4096), 0);
	CHECK((char *)shmat(id, room + 4096 + 77, SHM_RND) == room + 4096);
	CHECK_EQ(room[4096], 1);
	CHECK_EQ(shmctl(id, IPC_RMID, NULL), 0);
	CHECK_EQ(shmdt(room + 4096), 0);
	munmap(room, 1 << 16);
}

static void test_many(void)
{
	int ids[200];
	struct shmid_ds ds;

	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < 200; i++) {
			ids[i] = shmget(IPC_PRIVATE, 4096 * (i % 5 + 1), 0600);
			CHECK(ids[i] >= 0);
			char *p = shmat(ids[i], NULL, 0);
			CHECK(p != (void *)-1);
			p[0] = i;
			CHECK_EQ(shmdt(p), 0);
		}
		for (int i = 0; i < 200; i++)
			CHECK_EQ(shmctl(ids[i], IPC_RMID, NULL), 0);
		CHECK(shmctl(ids[0], IPC_STAT, &ds) == -1);
	}
}

TESTS({"errors", test_errors}, {"sharing", test_sharing}, {"placing", test_placing}, {"many", test_many})
