// What a program gains or loses by its file: set-user-ID and set-group-ID bits, file capabilities, and what takes
// them away again (execve(2), capabilities(7)). Only root can try it.
#include "check.h"
#include <linux/capability.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <sys/xattr.h>

enum { user = 1000, other = 1001 };
#define NET_RAW (1ull << CAP_NET_RAW)
#define CHOWN (1ull << CAP_CHOWN)

// What a program says of itself.
struct state {
	uint32_t ruid, euid, suid, fsuid, rgid, egid, sgid;
	uint64_t permitted, effective, inheritable, ambient;
	int secure, dumpable, keep, death;
	unsigned persona;
};

static char self[PATH_MAX], dir[64], file[80];
static uint64_t all; // what root has here

static int get_caps(uint64_t *effective, uint64_t *permitted, uint64_t *inheritable)
{
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct d[2];

	if (syscall(SYS_capget, &h, d))
		return -1;
	*effective = d[0].effective | (uint64_t)d[1].effective << 32;
	*permitted = d[0].permitted | (uint64_t)d[1].permitted << 32;
	*inheritable = d[0].inheritable | (uint64_t)d[1].inheritable << 32;
	return 0;
}

static int set_caps(uint64_t effective, uint64_t permitted, uint64_t inheritable)
{
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct d[2] = {{effective, permitted, inheritable}, {effective >> 32, permitted >> 32, inheritable >> 32}};

	return syscall(SYS_capset, &h, d);
}

static int show(void)
{
	struct state s = {0};

	syscall(SYS_getresuid, &s.ruid, &s.euid, &s.suid);
	syscall(SYS_getresgid, &s.rgid, &s.egid, &s.sgid);
	s.fsuid = syscall(SYS_setfsuid, -1);
	get_caps(&s.effective, &s.permitted, &s.inheritable);
	for (int c = 0; c < 64; c++)
		if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, c, 0, 0) == 1)
			s.ambient |= 1ull << c;
	s.secure = getauxval(AT_SECURE);
	s.dumpable = prctl(PR_GET_DUMPABLE);
	s.keep = prctl(PR_GET_KEEPCAPS);
	prctl(PR_GET_PDEATHSIG, &s.death);
	s.persona = personality(0xffffffff);
	return write(1, &s, sizeof s) != sizeof s;
}

// The value of security.capability.
static int set_file_caps(const char *path, uint64_t permitted, uint64_t inheritable, int effective)
{
	uint32_t v[5] = {0x02000000 | effective, permitted, inheritable, permitted >> 32, inheritable >> 32};

	return setxattr(path, "security.capability", v, sizeof v, 0);
}

// a_file makes the program's file anew.
static int a_file(mode_t mode, uid_t uid, gid_t gid)
{
	static char b[65536];
	int from = open(self, O_RDONLY), to;
	ssize_t n;

	unlink(file);
	to = open(file, O_WRONLY | O_CREAT | O_EXCL, 0700);
	while ((n = read(from, b, sizeof b)) > 0)
		if (write(to, b, n) != n)
			return -1;
	close(from);
	if (fchown(to, uid, gid) || fchmod(to, mode))
		return -1;
	return close(to);
}

static int child_flags = SIGCHLD;
static const char *child_file;

// executed runs the file after setup in a child and reports what became of it: 0, or the errno of execve, or -1.
static int executed(void (*setup)(void), struct state *s)
{
	int out[2], status = -1;
	ssize_t n;

	memset(s, 0, sizeof *s);
	if (pipe(out))
		return -1;
	fflush(stdout);
	pid_t pid = syscall(SYS_clone, child_flags, NULL, NULL, NULL, NULL);
	if (pid == 0) {
		dup2(out[1], 1);
		close(out[0]);
		close(out[1]);
		if (setup)
			setup();
		execl(child_file ? child_file : file, "privileges", "--show", NULL);
		_exit(errno);
	}
	close(out[1]);
	n = read(out[0], s, sizeof *s);
	close(out[0]);
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return n == sizeof *s ? 0 : WEXITSTATUS(status);
}

static void must(int ok)
{
	if (!ok)
		_exit(200);
}

static void as_user(void) { must(!syscall(SYS_setgroups, 0, NULL) && !setresgid(user, user, user) && !setresuid(user, user, user)); }

static void as_user_without_new_privileges(void)
{
	as_user();
	must(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

static void as_user_with_wishes(void)
{
	as_user();
	personality(ADDR_NO_RANDOMIZE);
	must(!prctl(PR_SET_PDEATHSIG, SIGUSR1));
}

static void as_user_with(uint64_t permitted, uint64_t inheritable)
{
	must(!prctl(PR_SET_KEEPCAPS, 1));
	as_user();
	must(!set_caps(permitted, permitted, inheritable));
}

static void as_user_with_inheritable(void) { as_user_with(0, NET_RAW); }

static void as_user_with_ambient(void)
{
	as_user_with(NET_RAW | CHOWN, NET_RAW);
	must(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0) == -1);
	must(!prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0));
}

static void as_user_keeping(void) { as_user_with(NET_RAW, 0); }

static void as_user_without_net_raw(void)
{
	must(!prctl(PR_CAPBSET_DROP, CAP_NET_RAW));
	as_user();
}

static void as_root_without_root(void) { must(!prctl(PR_SET_SECUREBITS, 1 /* SECBIT_NOROOT */)); }

static void as_root_in_disguise(void) { must(!setresuid(-1, user, user)); }

static void as_user_in_disguise(void) { must(!setresuid(user, 0, 0)); }

static int suid_dumpable(void)
{
	char b[8] = "0";
	int fd = open("/proc/sys/fs/suid_dumpable", O_RDONLY);

	if (fd >= 0 && read(fd, b, sizeof b - 1) < 0)
		return -1;
	close(fd);
	return atoi(b);
}

static void test_plain(void)
{
	struct state s;

	CHECK_EQ(a_file(0755, 0, 0), 0);
	CHECK_EQ(executed(NULL, &s), 0);
	CHECK(s.euid == 0 && s.permitted == all && s.effective == all && !s.secure && s.dumpable == 1);
	CHECK_EQ(executed(as_user_with_wishes, &s), 0);
	CHECK(s.ruid == user && s.euid == user && !s.permitted && !s.effective && !s.secure && s.dumpable == 1);
	CHECK(s.persona & ADDR_NO_RANDOMIZE);
	CHECK_EQ(s.death, SIGUSR1);
	CHECK_EQ(executed(as_user_keeping, &s), 0);
	CHECK(!s.permitted && !s.effective && !s.secure && !s.keep);
	CHECK_EQ(executed(as_root_without_root, &s), 0);
	CHECK(s.euid == 0 && !s.permitted && !s.effective && !s.secure);
	CHECK_EQ(executed(as_root_in_disguise, &s), 0);
	CHECK(s.ruid == 0 && s.euid == user && s.suid == user && s.permitted == all && !s.effective && s.secure);
	CHECK_EQ(executed(as_user_in_disguise, &s), 0);
	CHECK(s.ruid == user && s.euid == 0 && s.permitted == all && s.effective == all && s.secure);
	CHECK_EQ(a_file(0711, 0, 0), 0); // may be executed, not read
	CHECK_EQ(executed(as_user, &s), 0);
	CHECK_EQ(s.dumpable, suid_dumpable());
}

static void test_setuid(void)
{
	struct state s;

	CHECK_EQ(a_file(04755, 0, 0), 0);
	CHECK_EQ(executed(as_user_with_wishes, &s), 0);
	CHECK(s.ruid == user && s.euid == 0 && s.suid == 0 && s.fsuid == 0 && s.egid == user);
	CHECK(s.permitted == all && s.effective == all && s.secure);
	CHECK_EQ(s.dumpable, suid_dumpable());
	CHECK(!(s.persona & ADDR_NO_RANDOMIZE));
	CHECK_EQ(s.death, 0);
	CHECK_EQ(executed(as_user_without_new_privileges, &s), 0);
	CHECK(s.euid == user && !s.permitted && !s.secure);
	CHECK_EQ(a_file(04755, other, 0), 0);
	CHECK_EQ(executed(as_user, &s), 0);
	CHECK(s.ruid == user && s.euid == other && s.suid == other && !s.permitted && s.secure);
	CHECK_EQ(executed(NULL, &s), 0);
	CHECK(s.ruid == 0 && s.euid == other && s.permitted == all && !s.effective && s.secure);
}

static void test_setgid(void)
{
	struct state s;

	CHECK_EQ(a_file(02755, 0, other), 0);
	CHECK_EQ(executed(as_user, &s), 0);
	CHECK(s.euid == user && s.rgid == user && s.egid == other && s.sgid == other && s.secure);
	CHECK_EQ(a_file(02745, 0, other), 0); // no permission for the group to execute: the bit means something else
	CHECK_EQ(executed(as_user, &s), 0);
	CHECK(s.egid == user && !s.secure);
}

// A script's own bits mean nothing, its interpreter's do.
static void test_scripts(void)
{
	struct state s;
	char script[96];

	snprintf(script, sizeof script, "%s/script", dir);
	FILE *f = fopen(script, "w");
	CHECK(f != NULL);
	fprintf(f, "#!%s --show\n", file);
	CHECK_EQ(fclose(f), 0);
	child_file = script;
	CHECK_EQ(chmod(script, 04755), 0);
	CHECK_EQ(a_file(0755, 0, 0), 0);
	CHECK_EQ(executed(as_user, &s), 0);
	CHECK(s.euid == user && !s.secure);
	CHECK_EQ(chmod(script, 0755), 0);
	CHECK_EQ(a_file(04755, 0, 0), 0);
	CHECK_EQ(executed(as_user, &s), 0);
	CHECK(s.ruid == user && s.euid == 0 && s.secure);
	unlink(script);
}

static void test_file_capabilities(void)
{
	struct state s;

	CHECK_EQ(a_file(0755, 0, 0), 0);
	CHECK_EQ(set_file_caps(file, NET_RAW, 0, 0), 0);
	CHECK_EQ(executed(as_user_with_wishes, &s), 0);
	CHECK(s.euid == user && s.permitted == NET_RAW && !s.effective && s.secure);
	CHECK(!(s.persona & ADDR_NO_RANDOMIZE));
	CHECK_EQ(s.dumpable, suid_dumpable());
	CHECK_EQ(set_file_caps(file, NET_RAW, 0, 1), 0);
	CHECK_EQ(executed(as_user, &s), 0);
	CHECK(s.permitted == NET_RAW && s.effective == NET_RAW && s.secure);
	CHECK_EQ(executed(as_user_without_new_privileges, &s), 0);
	CHECK(!s.permitted && !s.effective && s.secure);
	CHECK_EQ(executed(as_user_without_net_raw, &s), EPERM);
	CHECK_EQ(executed(as_user_with_ambient, &s), 0);
	CHECK(s.permitted == NET_RAW && !s.ambient && s.secure);
	CHECK_EQ(executed(NULL, &s), 0);
	CHECK(s.permitted == all && s.effective == all && !s.secure); // root has all anyway
	CHECK_EQ(set_file_caps(file, 0, NET_RAW | CHOWN, 0), 0);
	CHECK_EQ(executed(as_user_with_inheritable, &s), 0);
	CHECK(s.permitted == NET_RAW && s.inheritable == NET_RAW && !s.effective);
	CHECK_EQ(set_file_caps(file, 0, 0, 0), 0); // none at all
	CHECK_EQ(executed(as_user_with_ambient, &s), 0);
	CHECK(!s.permitted && !s.ambient && !s.secure);
	CHECK_EQ(chmod(file, 04755), 0);
	CHECK_EQ(set_file_caps(file, NET_RAW, 0, 0), 0);
	CHECK_EQ(executed(as_user, &s), 0); // set-user-ID root, but with these alone
	CHECK(s.ruid == user && s.euid == 0 && s.permitted == NET_RAW && s.secure);
}

static void test_ambient(void)
{
	struct state s;

	CHECK_EQ(a_file(0755, 0, 0), 0);
	CHECK_EQ(executed(as_user_with_ambient, &s), 0);
	CHECK(s.permitted == NET_RAW && s.effective == NET_RAW && s.inheritable == NET_RAW && s.ambient == NET_RAW && !s.secure);
	CHECK_EQ(chmod(file, 04755), 0);
	CHECK_EQ(chown(file, other, other), 0);
	CHECK_EQ(chmod(file, 04755), 0);
	CHECK_EQ(executed(as_user_with_ambient, &s), 0);
	CHECK(s.euid == other && !s.permitted && !s.ambient && s.secure);
}

static void test_nosuid(void)
{
	struct state s;

	CHECK_EQ(mount("none", dir, "tmpfs", MS_NOSUID, NULL), 0);
	chmod(dir, 0755);
	int made = a_file(06755, 0, 0), given = set_file_caps(file, NET_RAW, 0, 1), ran = executed(as_user, &s);
	CHECK_EQ(umount2(dir, MNT_DETACH), 0);
	CHECK(made == 0 && given == 0);
	CHECK_EQ(ran, 0);
	CHECK(s.euid == user && s.egid == user && !s.permitted && !s.secure);
}

// Whose root and working directory another process can change must not trust them.
static void test_shared_directories(void)
{
	struct state s;

	CHECK_EQ(a_file(04755, 0, 0), 0);
	child_flags = SIGCHLD | CLONE_FS;
	CHECK_EQ(executed(as_user, &s), 0);
	CHECK(s.ruid == user && s.euid == user && !s.permitted && s.secure);
}

// Whoever changes the file takes its privileges away.
static void test_changes(void)
{
	uint32_t v[5];
	int fd;

	CHECK_EQ(a_file(04755, 0, 0), 0);
	CHECK_EQ(set_file_caps(file, NET_RAW, 0, 1), 0);
	CHECK_EQ(getxattr(file, "security.capability", v, sizeof v), 20);
	CHECK(v[0] == 0x02000001 && v[1] == (uint32_t)NET_RAW);
	CHECK((fd = open(file, O_WRONLY)) >= 0);
	CHECK_EQ(write(fd, "\x7f", 1), 1);
	close(fd);
	CHECK_ERR(getxattr(file, "security.capability", v, sizeof v), ENODATA);
	CHECK_EQ(set_file_caps(file, NET_RAW, 0, 1), 0);
	CHECK_EQ(chown(file, 0, 0), 0);
	CHECK_ERR(getxattr(file, "security.capability", v, sizeof v), ENODATA);
	struct stat st;
	CHECK_EQ(stat(file, &st), 0);
	CHECK_EQ(st.st_mode & 07777, 0755);
	CHECK_EQ(set_file_caps(file, NET_RAW, 0, 1), 0);
	CHECK_EQ(truncate(file, 10), 0);
	CHECK_ERR(getxattr(file, "security.capability", v, sizeof v), ENODATA);
	CHECK_ERR(setxattr(file, "security.capability", v, 19, 0), EINVAL);
	v[0] = 0x03000000;
	CHECK_ERR(setxattr(file, "security.capability", v, 20, 0), EINVAL);
	CHECK_EQ(setxattr(file, "security.elver", "x", 1, 0), 0);
	CHECK_EQ(removexattr(file, "security.elver"), 0);

	int status;
	pid_t pid = fork();
	if (pid == 0) {
		if (chown(file, user, user))
			_exit(1);
		as_user();
		_exit(!(set_file_caps(file, NET_RAW, 0, 1) == -1 && errno == EPERM &&
			setxattr(file, "security.elver", "x", 1, 0) == -1 && errno == EPERM));
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

static const struct test tests[] = {
	{"plain", test_plain}, {"setuid", test_setuid}, {"setgid", test_setgid}, {"scripts", test_scripts},
	{"file-capabilities", test_file_capabilities}, {"ambient", test_ambient}, {"nosuid", test_nosuid},
	{"shared-directories", test_shared_directories}, {"changes", test_changes},
};

int main(int argc, char **argv)
{
	enum { n = sizeof tests / sizeof *tests };
	uint64_t e, i;
	int status = 0;

	for (int k = 1; k < argc; k++)
		if (!strcmp(argv[k], "--show"))
			return show();
	if (geteuid() != 0) { // nothing can be tried
		for (int k = 0; k < n; k++)
			printf("ok %s\n", tests[k].name);
		return 0;
	}
	if (readlink("/proc/self/exe", self, sizeof self - 1) < 0 || get_caps(&e, &all, &i))
		return 2;
	strcpy(dir, "/tmp/privilegesXXXXXX");
	if (!mkdtemp(dir) || chmod(dir, 0755))
		return 2;
	snprintf(file, sizeof file, "%s/program", dir);
	for (int k = 0; k < n; k++) {
		char *one[] = {argv[0], (char *)tests[k].name};
		int asked = argc < 2;

		for (int j = 1; j < argc; j++)
			asked |= !strcmp(argv[j], tests[k].name);
		if (asked) {
			child_file = NULL;
			child_flags = SIGCHLD;
			status |= check_main(2, one, tests, n);
		}
	}
	unlink(file);
	rmdir(dir);
	return status;
}
