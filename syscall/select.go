package syscall

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A Selection says which system calls are traced, by number; the last stands for the numbers beyond
// the table.
type Selection [limit + 1]bool

// classes are the sets of strace(1) that the arguments of a call don't tell.
var classes = map[string]string{
	"process": "clone clone3 fork vfork execve execveat exit exit_group wait4 waitid kill tkill tgkill " +
		"rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open pidfd_send_signal unshare setns",
	"network": "accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg " +
		"sendfile sendmmsg sendmsg sendto setsockopt shutdown socket socketpair",
	"signal": "alarm kill pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend " +
		"rt_sigtimedwait rt_tgsigqueueinfo sigaltstack signalfd signalfd4 tgkill tkill pidfd_send_signal",
	"ipc": "semget semop semctl semtimedop shmget shmat shmctl shmdt msgget msgsnd msgrcv msgctl",
	"memory": "brk mmap munmap mprotect pkey_mprotect mremap msync mincore madvise process_madvise mlock mlock2 munlock " +
		"mlockall munlockall mbind set_mempolicy get_mempolicy migrate_pages move_pages remap_file_pages shmat shmdt mseal",
	"creds": "getuid geteuid getgid getegid setuid setgid setreuid setregid setresuid getresuid setresgid getresgid " +
		"setfsuid setfsgid getgroups setgroups capget capset prctl",
	"clock": "clock_gettime clock_settime clock_getres clock_adjtime gettimeofday settimeofday time adjtimex",
	"stat":  "stat", "lstat": "lstat", "fstat": "fstat newfstatat",
	"statfs": "statfs fstatfs",
}

// inClass reports whether r belongs to the set of that name in strace(1). known is false if there is
// no such set.
func (r *row) inClass(class string) (in, known bool) {
	switch class {
	case "all":
		return true, true
	case "file", "path":
		return r.takes(path), true
	case "desc":
		return r.takes(fd) || r.takes(dirFD) && r.number != unix.SYS_OPENAT, true
	}
	names, known := classes[class]
	return slices.Contains(strings.Fields(names), r.name), known
}

func (r *row) takes(k kind) bool { return slices.Contains(r.args[:], k) }

// ParseSelection reads what elver.strace and strace's -e trace= take: a list of calls and sets, such
// as "file,network,%process,!futex". A "!" takes out; a list that begins so begins with all.
func ParseSelection(list string) (*Selection, error) {
	var s Selection
	for i, element := range strings.Split(list, ",") {
		name, out := strings.CutPrefix(strings.TrimSpace(element), "!")
		if out && i == 0 {
			for number := range s {
				s[number] = true
			}
		}
		if !s.set(name, !out) {
			return nil, fmt.Errorf("elver.strace: %q is neither a system call nor a set of them such as file, desc, process, network, signal, memory, ipc, creds, clock or all", name)
		}
	}
	return &s, nil
}

// set gives the call or the calls of the set name the value v. It returns false if there is neither.
func (s *Selection) set(name string, v bool) bool {
	class, onlyClass := strings.CutPrefix(name, "%")
	found := false
	for i := range rows {
		r := &rows[i]
		in, known := r.inClass(class)
		found = found || known
		if !onlyClass && r.name == name {
			in, found = true, true
		}
		if in {
			s[r.number] = v
		}
	}
	if class == "all" {
		s[limit] = v
	}
	return found
}

func (s *Selection) has(number uint32) bool { return s == nil || s[min(number, limit)] }
