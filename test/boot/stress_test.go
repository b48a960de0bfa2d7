package boot

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// stressRoot holds Debian's stress-ng.
var stressRoot = &debianRoot{name: "debian-stress", packages: "bash coreutils stress-ng"}

type stress struct{ class, names string }

// stressors are those of stress-ng's that need no more than a kernel has, by its classes: no devices, no modules, no file
// systems of their own.
var stressors = []stress{
	{"cpu", `atomic branch bsearch context cpu fp funccall getrandom goto hash longjmp matrix nop numa opcode pkey prefetch
		qsort regs str vecmath wcs x86cpuid`},
	{"memory", `bad-altstack bigheap brk dev-shm env madvise malloc mcontend membarrier memcpy memfd memrate memthrash mincore
		mlock mmap mmapaddr mmapfixed mmapfork mmapmany mprotect mremap msync munmap null randlist remap resources rmap
		shm shm-sysv stack stackmmap tlb-shootdown vm vm-addr vm-rw vm-segv zero`},
	{"scheduler", `affinity clone close daemon eventfd exec exit-group fault fork forkheavy futex hrtimers inotify kill loadavg
		mq msg mutex nanosleep nice poll pthread race-sched resched schedpolicy sem sem-sysv session sleep spawn switch
		vfork vforkmany wait yield zombie`},
	{"pipe", `fifo pipe pipeherd ring-pipe sendfile splice tee vm-splice`},
	{"signals and timers", `aio alarm clock itimer pidfd sigabrt sigchld sigfd sigfpe sigio signal signest sigpending sigpipe sigq
		sigrt sigsegv sigsuspend sigtrap timer timerfd`},
	{"calls", `dup enosys epoll full get kcmp personality prctl ptrace rlimit seccomp set sockfd sockpair sysbadaddr
		sysinfo vdso`},
}

// stressScript runs each of its arguments for some seconds and tells how that ended.
const stressScript = `cd /tmp
seconds=$1; shift
for name; do
	as= # two of them want not to be root
	case $name in exec|spawn) as="chroot --userspec=65534:65534 /";; esac
	said=$($as stress-ng --$name 1 -t $seconds --verify --temp-path /dev/shm 2>&1)
	printf '\n== %s %s\n%s\n' $name $? "$said"
done
`

var stressSection = regexp.MustCompile(`(?m)^== (\S+) (\d+)$`)

// quickStressors are of all classes what the quick tests run, for a second each.
const quickStressors = `context mmapfork mremap clone futex exec sem pipe splice sigfd timer dup epoll`

// TestStress has stress-ng verify what the kernel does under load: nothing fails, nothing is left out, and the kernel
// reports nothing.
func TestStress(t *testing.T) {
	rows, seconds := stressors, 5
	if !soak {
		rows, seconds = []stress{{"quick", quickStressors}}, 1
	}
	for _, row := range rows {
		t.Run(row.class, func(t *testing.T) {
			t.Parallel()
			root := stressRoot.dir(t)
			dir, err := os.MkdirTemp(filepath.Join(root, "tmp"), "stress")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			if err := os.WriteFile(filepath.Join(dir, "script"), []byte(stressScript), 0o644); err != nil {
				t.Fatal(err)
			}
			names := strings.Fields(row.names)
			r := vm{args: fmt.Sprintf(`bash /tmp/%s/script %d %s`, filepath.Base(dir), seconds, strings.Join(names, " ")),
				script: []string{"-e", root}, mem: 1024, timeout: time.Duration(len(names)*4*seconds)*time.Second + 2*time.Minute}.run(t)
			if r.status != 0 || r.stderr != "" {
				t.Errorf("wanted the script's end and no report\n%v", r)
			}
			ends := stressSection.FindAllStringSubmatchIndex(r.stdout, -1)
			if len(ends) != len(names) {
				t.Fatalf("%d of %d stressors came to an end\n%v", len(ends), len(names), r)
			}
			for i, at := range ends {
				end := len(r.stdout)
				if i+1 < len(ends) {
					end = ends[i+1][0]
				}
				said := r.stdout[at[0]:end]
				if r.stdout[at[4]:at[5]] != "0" || regexp.MustCompile(`fail:|error:|skipp|aborted early`).MatchString(said) {
					t.Errorf("%s: %s", names[i], clip(said))
				}
			}
		})
	}
}
