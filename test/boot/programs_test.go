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

// selfChecking lists the programs that check themselves. They run on the host
// first; the VM must then print the same, which is an "ok" line for each test.
var selfChecking = []struct {
	group   string // the issue that asks for it
	program string
	kinds   []kind
	mem     int
	qemu    []string
	timeout time.Duration
}{
	{"boot", "registers", []kind{staticPIE, staticExe, musl}, 64, nil, 0},
	{"boot", "registers", []kind{staticPIE}, 64, []string{"-cpu", "qemu64"}, 0},
	{"boot", "registers", []kind{staticPIE}, 64, []string{"-cpu", "max,-xsave"}, 0},
	{"boot", "memory", []kind{staticPIE, staticExe, musl}, 256, nil, 0},
	{"network", "garbage", []kind{staticPIE, musl}, 128, nil, 0},
	{"boot", "stack", []kind{staticPIE, staticExe, musl}, 64, nil, 0},
	{"boot", "files", []kind{staticPIE, musl}, 128, nil, 0},
	{"boot", "devices", []kind{staticPIE, musl}, 64, nil, 0},
	{"boot", "identity", []kind{staticPIE, musl}, 64, nil, 0},
	{"boot", "clocks", []kind{staticPIE, musl}, 64, nil, 0},
	{"boot", "polling", []kind{staticPIE, musl}, 64, nil, 0},
	{"signals", "signals", []kind{staticPIE, staticExe, musl}, 128, nil, 0},
	{"signals", "sigframe", []kind{staticPIE, musl}, 128, nil, 0},
	{"signals", "sigframe", []kind{staticPIE}, 128, []string{"-cpu", "qemu64"}, 0},
	{"signals", "sigframe", []kind{staticPIE}, 128, []string{"-cpu", "max,-xsave"}, 0},
	{"signals", "timers", []kind{staticPIE, musl}, 128, nil, 0},
	{"signals", "signalfds", []kind{staticPIE, musl}, 128, nil, 0},
	{"threads", "threads", []kind{staticPIE, staticExe, musl}, 256, nil, 2 * time.Minute},
	{"threads", "manythreads", []kind{staticPIE, musl}, 1024, nil, 4 * time.Minute},
	{"threads", "futexes", []kind{staticPIE, musl}, 128, nil, 0},
	{"threads", "threadregisters", []kind{staticPIE}, 128, nil, 0},
	{"threads", "storms", []kind{staticPIE, musl}, 128, nil, 2 * time.Minute},
	{"threads", "wakeups", []kind{staticPIE, musl}, 128, nil, 2 * time.Minute},
	{"signals", "interrupted", []kind{staticPIE, musl}, 128, nil, 2 * time.Minute},
	{"waiting", "pipes", []kind{staticPIE, musl}, 128, nil, 0},
	{"waiting", "epolls", []kind{staticPIE, musl}, 128, nil, 0},
	{"waiting", "eventfds", []kind{staticPIE, musl}, 128, nil, 0},
	{"waiting", "timerfds", []kind{staticPIE, musl}, 128, nil, 0},
	{"waiting", "sockets", []kind{staticPIE, musl}, 128, nil, 0},
	{"waiting", "splices", []kind{staticPIE, musl}, 128, nil, 0},
	{"waiting", "unixsockets", []kind{staticPIE, musl}, 128, nil, 0},
	{"waiting", "unixurgents", []kind{staticPIE, musl}, 128, nil, 0},
	{"network", "inetsockets", []kind{staticPIE, musl}, 128, nil, 2 * time.Minute},
	{"network", "tcpsockets", []kind{staticPIE, musl}, 128, nil, 2 * time.Minute},
	{"network", "connections", []kind{staticPIE, musl}, 128, nil, 2 * time.Minute},
	{"network", "urgents", []kind{staticPIE, musl}, 128, nil, 2 * time.Minute},
	{"network", "datagrams", []kind{staticPIE, musl}, 128, nil, 2 * time.Minute},
	{"network", "multicasts", []kind{staticPIE, musl}, 128, nil, 2 * time.Minute},
	{"network", "netlinks", []kind{staticPIE, musl}, 128, nil, 2 * time.Minute},
	{"network", "netfiles", []kind{staticPIE, musl}, 128, nil, 2 * time.Minute},
	{"network", "filters", []kind{staticPIE, musl}, 128, nil, 2 * time.Minute},
	{"network", "shortways", []kind{staticPIE, musl}, 128, nil, 2 * time.Minute},
	{"network", "loopback", []kind{staticPIE, musl}, 128, nil, 2 * time.Minute},
	{"waiting", "aios", []kind{staticPIE, musl}, 128, nil, 0},
	{"signals", "pidfds", []kind{staticPIE, musl}, 128, nil, 0},
	{"files", "locks", []kind{staticPIE, musl}, 128, nil, 0},
	{"files", "corners", []kind{staticPIE, musl}, 128, nil, 0},
	{"files", "mounts", []kind{staticPIE, musl}, 128, nil, 0},
	{"files", "ondisk", []kind{musl}, 128, nil, 2 * time.Minute},
	{"files", "hugepages", []kind{staticPIE, musl}, 128, nil, 0},
	{"files", "ptys", []kind{staticPIE, musl}, 128, nil, 0},
	{"files", "inotifies", []kind{staticPIE, musl}, 128, nil, 0},
	{"files", "procfiles", []kind{staticPIE, musl}, 128, nil, 0},
	{"processes", "sysvshm", []kind{staticPIE, musl}, 128, nil, 0},
	{"processes", "sysvsem", []kind{staticPIE, musl}, 128, nil, 0},
	{"processes", "sysvmsg", []kind{staticPIE, musl}, 128, nil, 0},
	{"processes", "seccomps", []kind{staticPIE}, 128, nil, 0},
	{"processes", "cores", []kind{staticPIE, musl}, 128, nil, 0},
	{"processes", "processes", []kind{staticExe}, 400, nil, 4 * time.Minute},
	{"processes", "privileges", []kind{staticPIE}, 128, nil, 0},
	{"processes", "setmm", []kind{staticPIE, staticExe, musl}, 128, nil, 0},
	{"processes", "mqueues", []kind{staticPIE, musl}, 128, nil, 0},
	{"processes", "ptraces", []kind{staticPIE, musl}, 128, nil, 0},
	{"go", "gobasics", []kind{goProgram}, 256, nil, 2 * time.Minute},
	{"go", "goruntime", []kind{goProgram}, 256, nil, 2 * time.Minute},
	{"go", "gosignals", []kind{goProgram}, 128, nil, 2 * time.Minute},
	{"go", "goload", []kind{goProgram}, 512, nil, 4 * time.Minute},
	{"go", "gostress", []kind{goProgram}, 512, nil, 4 * time.Minute},
	{"network", "gonet", []kind{goProgram}, 256, nil, 2 * time.Minute},
	{"rust", "rustthreads", []kind{rust}, 256, nil, 2 * time.Minute},
}

var okLine = regexp.MustCompile(`(?m)^ok (.+)$`)

func TestPrograms(t *testing.T) {
	for _, row := range selfChecking {
		for _, k := range row.kinds {
			name := fmt.Sprintf("%s/%s/%s", row.group, row.program, k)
			if row.qemu != nil {
				name += fmt.Sprint(row.qemu)
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				program := build(t, k, row.program)
				onHost := onLinux(t, program)
				inVM := vm{program: program, mem: row.mem, qemu: append(clock(), row.qemu...), timeout: row.timeout}.run(t)
				passed := map[string]bool{}
				for _, m := range okLine.FindAllStringSubmatch(inVM.stdout, -1) {
					passed[m[1]] = true
				}
				for _, m := range okLine.FindAllStringSubmatch(onHost.stdout, -1) {
					t.Run(m[1], func(t *testing.T) {
						if !passed[m[1]] {
							t.Error("passes on Linux, not here:", failure(inVM, m[1]))
						}
					})
				}
				if inVM.status != 0 || inVM.stdout != onHost.stdout || inVM.stderr != "" {
					t.Errorf("wanted what Linux gives, status 0 and no log\n%v", inVM)
				}
			})
		}
	}
}

// clock returns QEMU's words for the machine's clock. It is one that counts
// instructions, 8 ns for each, and skips idle time: what a program finds doesn't
// depend on how busy the host is, and is the same each time. The soak test takes
// the host's clock, and the chance that comes with it.
func clock() []string {
	if soak {
		return nil
	}
	return []string{"-icount", "shift=3,sleep=off"}
}

// onLinux returns what the program does on the host. There the times that it
// looks at are those of a busy machine: it may try again.
func onLinux(t *testing.T, program string) result {
	t.Helper()
	var r result
	for range 5 {
		if r = execute(patience, "", []string{program}); r.status == 0 {
			return r
		}
	}
	t.Fatalf("fails on the host's Linux already\n%v", r)
	return r
}

// failure returns what the program in the VM had to say about one of its tests.
func failure(r result, name string) string {
	for line := range strings.Lines(r.stdout) {
		if strings.HasPrefix(line, "FAIL "+name+":") {
			return line
		}
	}
	return fmt.Sprintf("not reached; status %d", r.status)
}

// table lists programs with what they are given and what must come out.
var table = []struct {
	name    string
	program string
	kind    kind
	args    string
	stdin   string
	stdout  string
	status  int
	stderr  string // a regular expression; nothing may be logged if empty
}{
	{"args/none", "args", staticPIE, "env.vars=[ ]", "", "argv[0]=args\n*", 0, ""},
	{"args/first-is-the-name", "args", staticPIE, "args one two", "", "argv[0]=args\nargv[1]=one\nargv[2]=two\n*", 0, ""},
	{"args/first-is-a-path-of-the-name", "args", staticPIE, "/usr/bin/args one", "", "argv[0]=/usr/bin/args\nargv[1]=one\n*", 0, ""},
	{"args/first-is-an-argument", "args", staticPIE, `-- a "b c"`, "", "argv[0]=args\nargv[1]=a\nargv[2]=b c\n*", 0, ""},
	{"args/quotes", "args", staticPIE, `'a "b"' "c \" \\ $d" e\ f '' x=y`, "",
		"argv[0]=args\nargv[1]=a \"b\"\nargv[2]=c \" \\ $d\nargv[3]=e f\nargv[4]=\nargv[5]=x=y\n*", 0, ""},
	{"args/parameters-then-words", "args", staticPIE, `env.vars=[ "A=b c" ] one`, "", "argv[0]=args\nargv[1]=one\n*env A=b c\n*", 0, ""},
	{"args/parameters-then-dashes", "args", staticPIE, `env.vars=[ "A=1" "B=2" ] -- env.vars=x`, "",
		"argv[0]=args\nargv[1]=env.vars=x\n*env A=1\nenv B=2\n*", 0, ""},
	{"args/dashes-of-the-program", "args", staticPIE, `-- -v -- x`, "", "argv[0]=args\nargv[1]=-v\nargv[2]=--\nargv[3]=x\n*", 0, ""},
	{"args/linux-words-are-ignored", "args", staticPIE, `console=ttyS0 quiet root=/dev/sda one`, "", "argv[0]=args\nargv[1]=one\n*", 0, ""},
	{"env/defaults", "args", staticPIE, "", "", "*env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n*", 0, ""},
	{"env/home", "args", staticPIE, "", "", "*env HOME=/root\n*", 0, ""},
	{"env/term", "args", staticPIE, "", "", "*env TERM=linux\n*", 0, ""},
	{"env/overrides", "args", staticPIE, `env.vars=[ "HOME=/x" ]`, "", "*env HOME=/x\n*", 0, ""},

	{"stdin/empty", "echo", staticPIE, "", "", "", 0, ""},
	{"stdin/lines", "echo", staticPIE, "", "one\ntwo\n", "one\ntwo\n", 8, ""},
	{"stdin/no-final-newline", "echo", staticPIE, "", "one\ntwo", "one\ntwo", 7, ""},
	{"stdin/every-byte", "echo", staticExe, "", allBytes, allBytes, 0, ""},
	{"stdin/control-characters", "echo", musl, "", "\x03\x04\x1a\x7f\x10\x11\x13\x15\r\n\r", "\x03\x04\x1a\x7f\x10\x11\x13\x15\r\n\r", 11, ""},
	{"stdin/much", "echo", staticPIE, "", strings.Repeat(allBytes, 200), strings.Repeat(allBytes, 200), 0, ""},

	{"exit/0", "status", staticPIE, "exit 0", "", "before exit\n", 0, ""},
	{"exit/7", "status", staticExe, "exit 7", "", "before exit\n", 7, ""},
	{"exit/125", "status", staticPIE, "exit 125", "", "before exit\n", 125, ""},
	{"exit/128", "status", staticPIE, "exit 128", "", "before exit\n", 128, ""},
	{"exit/255", "status", musl, "exit 255", "", "before exit\n", 255, ""},
	{"exit/256-is-0", "status", staticPIE, "_exit 256", "", "before _exit\n", 0, ""},
	{"exit/of-main", "status", staticPIE, "", "", "before \n", 100, ""},
	{"dies/null", "status", staticPIE, "null", "", "before null\n", 139, `SIGSEGV`},
	{"dies/null-non-pie", "status", staticExe, "null", "", "before null\n", 139, `SIGSEGV`},
	{"dies/jump", "status", staticPIE, "jump", "", "before jump\n", 139, `SIGSEGV`},
	{"dies/noncanonical", "status", staticPIE, "noncanonical", "", "before noncanonical\n", 139, `SIGSEGV`},
	{"dies/kernel-address", "status", staticPIE, "kernel", "", "before kernel\n", 139, `SIGSEGV`},
	{"dies/nx", "status", staticPIE, "nx", "", "before nx\n", 139, `SIGSEGV`},
	{"dies/rodata", "status", staticPIE, "rodata", "", "before rodata\n", 139, `SIGSEGV`},
	{"dies/stack-overflow", "status", staticPIE, "stack", "", "before stack\n", 139, `SIGSEGV`},
	{"dies/ill", "status", staticPIE, "ill", "", "before ill\n", 132, `SIGILL`},
	{"dies/privileged", "status", staticPIE, "privileged", "", "before privileged\n", 139, `SIGSEGV`},
	{"dies/port", "status", staticPIE, "port", "", "before port\n", 139, `SIGSEGV`},
	{"dies/trap", "status", staticPIE, "trap", "", "before trap\n", 133, `SIGTRAP`},
	{"dies/int81", "status", staticPIE, "int80", "", "before int80\n", 139, `SIGSEGV`},
	{"dies/divide", "status", staticPIE, "divide", "", "before divide\n", 136, `SIGFPE`},
	{"dies/abort", "status", staticPIE, "abort", "", "before abort\n", 134, `SIGABRT`},
	{"dies/abort-musl", "status", musl, "abort", "", "before abort\n", 134, `SIGABRT`},
	{"dies/kill-9", "status", staticPIE, "signal 9", "", "before signal\n", 137, `SIGKILL`},
	{"dies/term", "status", staticPIE, "raise 15", "", "before raise\n", 143, ""},
	{"dies/real-time-signal", "status", staticPIE, "signal 40", "", "before signal\n", 168, ""},
	{"dies/end-of-user-space", "status", staticPIE, "syscall-kernel-rip", "", "before syscall-kernel-rip\n", 139, `SIGSEGV`},
	{"init/of-its-own", "underinit", staticPIE, "elver.init=1", "", "ok numbers\nok orphans\nok zombies\nok signals\nok proc\n", 0, ""},
	{"init/status", "status", staticPIE, "elver.init=1 -- exit 7", "", "before exit\n", 7, ""},
	{"init/dies", "status", staticPIE, "elver.init=1 -- null", "", "before null\n", 139, `SIGSEGV`},
	{"lives/signal-0", "status", staticPIE, "signal 0", "", "before signal\n", 100, ""},
	{"lives/sigchld", "status", staticPIE, "signal 17", "", "before signal\n", 100, ""},
}

var allBytes = func() string {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return string(b)
}()

func TestTable(t *testing.T) {
	for _, row := range table {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			r := vm{program: build(t, row.kind, row.program), args: row.args, stdin: row.stdin, mem: 64}.run(t)
			if !matches(row.stdout, r.stdout) || r.status != row.status {
				t.Errorf("wanted status %d and the output %q\n%v", row.status, clip(row.stdout), r)
			}
			if row.stderr == "" && r.stderr != "" {
				t.Errorf("wanted nothing on the log\n%v", r)
			}
			if !regexp.MustCompile(row.stderr).MatchString(r.stderr) {
				t.Errorf("wanted a report that matches %q\n%v", row.stderr, r)
			}
		})
	}
}

// matches compares exactly, but for "*" at the ends of lines and of the whole,
// which stands for anything. allBytes holds a star of its own.
func matches(pattern, s string) bool {
	if pattern == s {
		return true
	}
	if len(pattern) > 200 {
		return false
	}
	quoted := regexp.QuoteMeta(pattern)
	return regexp.MustCompile(`(?s)^` + strings.ReplaceAll(quoted, `\*`, `.*`) + `$`).MatchString(s)
}

// TestReport reads the report of a dying program: one sentence first, then what
// a person needs to find the fault.
func TestReport(t *testing.T) {
	t.Parallel()
	r := vm{program: build(t, staticExe, "status"), args: "null"}.run(t)
	first, rest, _ := strings.Cut(r.stderr, "\n")
	for _, want := range []string{`SIGSEGV`, `status`} {
		if !regexp.MustCompile(want).MatchString(first) {
			t.Errorf("the first line doesn't say %s: %s", want, first)
		}
	}
	for _, want := range []string{`(?i)rip`, `(?i)rsp`, `(?i)\bmov`, `status`} {
		if !regexp.MustCompile(want).MatchString(rest) {
			t.Errorf("the report doesn't say %s:\n%s", want, r.stderr)
		}
	}
}

// TestOutOfMemory kills the program, not the kernel.
func TestOutOfMemory(t *testing.T) {
	for _, mem := range []int{32, 128, 512} {
		t.Run(fmt.Sprint(mem), func(t *testing.T) {
			t.Parallel()
			r := vm{program: build(t, staticPIE, "oom"), mem: mem}.run(t)
			if r.stdout != "taking all\n" || r.status != 137 {
				t.Errorf("wanted death by SIGKILL\n%v", r)
			}
			if !strings.Contains(r.stderr, "-m") || !strings.Contains(r.stderr, fmt.Sprint(mem)) {
				t.Errorf("the report should name -m and %d\n%v", mem, r)
			}
		})
	}
}

// TestMayhem throws system calls at random at the kernel (test/programs/mayhem.c): nothing may stop it, nor make it panic.
// Each seed is a game of its own, the same each time on the clock that counts instructions. The soak test plays more of
// them, on the host's clock and on a share too.
func TestMayhem(t *testing.T) {
	program := build(t, staticPIE, "mayhem")
	onLinux(t, program)
	seeds := 3
	if soak {
		seeds = 30
	}
	for seed := 1; seed <= seeds; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			v := vm{program: program, args: fmt.Sprint(seed, " 40 500"), qemu: clock(), timeout: 10 * time.Minute}
			if seed%3 == 0 && soak {
				dir := t.TempDir()
				b, err := os.ReadFile(program)
				if err == nil {
					err = os.WriteFile(filepath.Join(dir, "mayhem"), b, 0o755)
				}
				if err != nil {
					t.Fatal(err)
				}
				v.program, v.script, v.args = "", []string{"-e", dir}, "/mayhem "+v.args
			}
			r := v.run(t)
			// What it prints a game may have kept from the terminal, /dev/tty.
			if r.status != 0 || strings.Contains(r.stdout, "FAIL") || strings.Contains(r.stderr, "panicked") {
				t.Errorf("wanted it to go on to the end\n%v", r)
			}
		})
	}
}

// TestStorms has children of a program take all memory: each is killed and reported, and the kernel gets
// everything back.
func TestStorms(t *testing.T) {
	t.Parallel()
	r := vm{program: build(t, staticPIE, "storms"), args: "memory", mem: 128, timeout: 2 * time.Minute}.run(t)
	if r.stdout != "ok memory\n" || r.status != 0 || strings.Count(r.stderr, "killed: out of memory") != 3 {
		t.Errorf("wanted three deaths, reported, and nothing left of them\n%v", r)
	}
}

// TestForkOfGigabyte forks a process of 1 GiB where there is no room for a second one.
func TestForkOfGigabyte(t *testing.T) {
	r := vm{program: build(t, staticExe, "processes"), args: `env.vars=[ "LARGE=1024" ] -- large`, mem: 1400, timeout: 10 * time.Minute}.run(t)
	if r.stdout != "ok large\n" || r.status != 0 || r.stderr != "" {
		t.Errorf("wanted a child with the same memory\n%v", r)
	}
}

// TestWakeups hammers each way to wake a thread, on the host's clock and on one of instructions; the soak test for longer.
func TestWakeups(t *testing.T) {
	t.Parallel()
	rounds := "ROUNDS=200"
	if soak {
		rounds = "ROUNDS=2000"
	}
	for _, qemu := range [][]string{nil, {"-icount", "shift=3"}} {
		r := vm{program: build(t, staticPIE, "wakeups"), args: rounds, mem: 128, qemu: qemu, timeout: 5 * time.Minute}.run(t)
		if r.status != 0 || strings.Contains(r.stdout, "FAIL") {
			t.Errorf("%v: a wakeup was lost\n%v", qemu, r)
		}
	}
}

func TestStrace(t *testing.T) {
	t.Parallel()
	r := vm{program: build(t, staticPIE, "helloworld"), args: "elver.strace=1"}.run(t)
	if r.stdout != hello || r.status != 0 {
		t.Errorf("tracing changed the program\n%v", r)
	}
	for _, want := range []string{
		`brk\(NULL\) += 0x[0-9a-f]+`,
		`arch_prctl\(ARCH_SET_FS, 0x[0-9a-f]+\) += 0`,
		`write\(1, "Hello world!\\n", 13\) += 13`,
		`exit_group\(0\)`,
		`mprotect\(0x[0-9a-f]+, \d+, PROT_READ\) += 0`,
	} {
		if !regexp.MustCompile(want).MatchString(r.stderr) {
			t.Errorf("the trace lacks %s\n%s", want, clip(r.stderr))
		}
	}
}

func TestStraceSelection(t *testing.T) {
	t.Parallel()
	r := vm{program: build(t, staticPIE, "helloworld"), args: "elver.strace=desc,!%memory elver.timestamps=1"}.run(t)
	if r.stdout != hello || !regexp.MustCompile(`(?m)^ +\d+\.\d{6} write\(1, "Hello world!\\n", 13\) += 13$`).MatchString(r.stderr) || strings.Contains(r.stderr, "brk(") {
		t.Errorf("wanted write with its time and no brk\n%v", r)
	}
	r = vm{program: build(t, staticPIE, "helloworld"), args: "elver.strace=file,nosuchcall"}.run(t)
	if r.status != 125 || !strings.Contains(r.stderr, `"nosuchcall" is neither a system call nor a set`) {
		t.Errorf("wanted a refusal\n%v", r)
	}
}

func TestSummary(t *testing.T) {
	t.Parallel()
	r := vm{program: busybox(t), args: "elver.summary=1 -- busybox cat /no/such/file"}.run(t)
	for _, want := range []string{
		`(?m)^ +1 +\d+\.\d{6} +\d+\.\d\d  exit_group$`, `not found: "/no/such/file"`, `peak memory: \d+\.\d MB of 256 MB`, `time to the first instruction: \d+\.\d{3} ms`,
	} {
		if !regexp.MustCompile(want).MatchString(r.stderr) {
			t.Errorf("the summary lacks %s\n%s", want, clip(r.stderr))
		}
	}
}

// TestCounters: /proc/elver says what the kernel did and does.
func TestCounters(t *testing.T) {
	t.Parallel()
	r := vm{program: busybox(t), args: `busybox sh -c "cat /proc/elver/counters; cat /proc/elver/goroutines"`}.run(t)
	for _, want := range []string{
		`(?m)^syscalls [1-9]\d*$`, `(?m)^page_faults [1-9]\d*$`, `(?m)^memory_program [1-9]\d*$`, `(?m)^threads 2$`, `elver/kernel\.\(\*Thread\)\.serve`,
	} {
		if !regexp.MustCompile(want).MatchString(r.stdout) {
			t.Errorf("/proc/elver lacks %s\n%v", want, r)
		}
	}
}

// TestStraceWithoutLogChannel: then it goes to the only channel there is.
func TestStraceWithoutLogChannel(t *testing.T) {
	t.Parallel()
	r := vm{program: build(t, staticPIE, "helloworld"), args: "elver.strace=1", raw: true}.run(t)
	if !strings.Contains(r.stdout, hello) || !strings.Contains(r.stdout, `write(1, "Hello world!\n", 13)`) {
		t.Errorf("wanted output and trace on the serial line\n%v", r)
	}
}

// TestDebugExit: with that device and nothing else QEMU's status is made of the
// program's.
func TestDebugExit(t *testing.T) {
	for _, status := range []int{0, 1, 7, 100, 127} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			r := vm{program: build(t, staticPIE, "status"), args: fmt.Sprint("exit ", status), raw: true,
				qemu: []string{"-device", "isa-debug-exit,iobase=0xf4,iosize=4"}}.run(t)
			if want := (status<<1 | 1) & 255; r.status != want {
				t.Errorf("wanted status %d\n%v", want, r)
			}
		})
	}
}
