package boot

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"elver/test/debian"
	"elver/test/need"
)

// debianPackages are what the root of Debian's programs is asked for; apt-get adds what they depend on.
const debianPackages = "bash dash ncurses-base coreutils grep sed mawk findutils diffutils tar gzip perl-base python3 sqlite3 git procps util-linux strace"

// soakPackages are some 440 MB of further programs, for the scripts of the soak test.
const soakPackages = debianPackages + " perl lua5.4 ruby nodejs openjdk-17-jdk-headless xz-utils zstd bzip2 lz4 zip unzip cpio" +
	" openssl ca-certificates curl vim-tiny nano less expect tcl jq rsync openssh-client gnupg imagemagick php-cli php-sqlite3" +
	" guile-3.0 erlang-base ocaml-nox busybox-static file bc dc gawk m4 ed ripgrep redis-server netcat-openbsd socat" +
	" netbase tmux libpython3.11-testsuite"

// systemPackages are some 150 MB of programs that are many processes: build tools, debuggers, servers, terminals.
const systemPackages = debianPackages + " bsdutils gdb make gcc libc6-dev redis-server postgresql tmux screen expect supervisor"

// soakNames are the names under which their installation would have made them known.
var soakNames = map[string]string{
	"php": "php8.2", "guile": "guile-3.0", "vim": "vim.tiny", "nc": "../../bin/nc.openbsd", "convert": "convert-im6.q16", "identify": "identify-im6.q16",
	"java": "../lib/jvm/java-17-openjdk-amd64/bin/java", "javac": "../lib/jvm/java-17-openjdk-amd64/bin/javac",
}

// debianRoot is a directory with packages, made when it is first asked for.
type debianRoot struct {
	name, packages string
	names          map[string]string // symbolic links in /usr/bin
	once           sync.Once
	problem        string
}

var (
	quickRoot = &debianRoot{name: "debian-quick", packages: debianPackages}
	soakRoot  = &debianRoot{name: "debian-soak", packages: soakPackages, names: soakNames}
	// systemRoot is for the scripts with "# system" at their head.
	systemRoot = &debianRoot{name: "debian-system", packages: systemPackages}
)

// dir returns the root's directory.
func (r *debianRoot) dir(t testing.TB) string {
	t.Helper()
	for _, tool := range []string{"apt-get", "dpkg"} {
		need.Command(t, tool)
	}
	dir := filepath.Join(cache, r.name, "root")
	r.once.Do(func() {
		if err := debian.Fetch(cache, r.name, r.packages, r.names); err != nil {
			r.problem = err.Error()
		}
	})
	if r.problem != "" {
		t.Fatal(r.problem)
	}
	return dir
}

// debianDir returns the directory of a root with Debian's programs.
func debianDir(t testing.TB) string {
	t.Helper()
	return quickRoot.dir(t)
}

// TestDebian runs unmodified, dynamically linked programs of Debian on a 9p root. What the scripts print
// is what they print on Linux.
func TestDebian(t *testing.T) {
	rows := []struct {
		name, interpreter, script, stdout string
		left                              map[string]string // how files begin that the host finds
	}{
		{"bash", "bash", `
			for i in 1 2 3; do echo "line $i"; done | sort -r | uniq -c | sed 's/^ *//'
			x=$(echo a b c | tr ' ' '\n' | wc -l); cat <<-END | awk '{s+=length($0)} END {print s, NR}'
				here $x
				document
			END
			trap 'echo trapped' TERM; kill -TERM $$
			(sleep 0.1; exit 7) & wait $!; echo "waited $?"
			sleep 60 & kill $!; wait $!; echo "killed $?"
			comm -12 <(seq 1 5) <(seq 3 8) | paste -sd,
			cat <(sleep 0.2; echo slow) <(true)
			mkfifo f; cat f & echo "through a FIFO" >f; wait $!
			coproc tr a-z A-Z; echo loud >&${COPROC[1]}; eval "exec ${COPROC[1]}>&-"; cat <&${COPROC[0]}
			mkdir -p d/e; echo foo bar foo | tee d/a d/e/b >/dev/null; find d -type f -exec sed -i s/foo/qux/g {} +; cat d/a d/e/b
			tar cf - d | gzip >t.gz; mkdir u; gzip -dc t.gz | tar xf - -C u; diff -r d u/d && echo same
			false | true; echo "${PIPESTATUS[@]}"; declare -A m=([k]=v); echo ${m[k]}; timeout 0.2 sleep 9; echo $?
			seq 1 20000 | sort -n | sha256sum
			(bash -c 'kill -SEGV $$'; exit $?) 2>/dev/null; echo $?`,
			"1 line 3\n1 line 2\n1 line 1\n14 2\ntrapped\nwaited 7\nkilled 143\n3,4,5\nslow\nthrough a FIFO\nLOUD\n" +
				"qux bar qux\nqux bar qux\nsame\n1 0\nv\n124\n" +
				"f6351f5ead9a700e34275480b3856ea738122a7c57bdeb744a631251c069587a  -\n139\n",
			map[string]string{"d/e/b": "qux bar qux\n", "t.gz": "\x1f\x8b"}},
		{"python", "python3", `
import asyncio, concurrent.futures, ctypes, hashlib, mmap, multiprocessing, os, signal, socket, sqlite3, subprocess, tempfile, threading, time
def square(x): return x * x
print(subprocess.run(['cat'], input=b'x' * 200000, capture_output=True).stdout == b'x' * 200000)
with multiprocessing.Pool(2) as p: print(p.map(square, range(6)))
counter = multiprocessing.Value('i', 0)
def count():
    for _ in range(100):
        with counter.get_lock(): counter.value += 1
workers = [multiprocessing.Process(target=count) for _ in range(3)]
[w.start() for w in workers]; [w.join() for w in workers]; print(counter.value)
with concurrent.futures.ThreadPoolExecutor(4) as e: print(sum(e.map(square, range(50))))
async def main():
    async def serve(r, w): w.write((await r.readline()).upper()); await w.drain(); w.close()
    s = await asyncio.start_unix_server(serve, 'socket')
    r, w = await asyncio.open_unix_connection('socket'); w.write(b'by a socket\n'); print(await r.read()); s.close()
    c = await asyncio.create_subprocess_exec('wc', '-c', stdin=-1, stdout=-1); print((await c.communicate(b'12345'))[0])
    print(await asyncio.gather(*[asyncio.sleep(0.01 * i, i) for i in range(4)]))
asyncio.run(main())
with open('file', 'w+b') as f:
    f.truncate(8192); m = mmap.mmap(f.fileno(), 0); m[4090:4100] = b'0123456789'; m.flush(); f.seek(4090); print(f.read(10))
libc = ctypes.CDLL('libc.so.6'); print(libc.getpid() == os.getpid())
alarms = []; signal.signal(signal.SIGALRM, lambda s, f: alarms.append(s)); signal.setitimer(signal.ITIMER_REAL, 0.05); time.sleep(0.2); print(alarms)
with tempfile.TemporaryDirectory() as d: open(d + '/x', 'w').close(); print(os.listdir(d))
print(hashlib.sha256(b'x' * 1000000).hexdigest()[:16], flush=True)
os.execve(os.open('/bin/echo', os.O_RDONLY), ['echo', 'by a descriptor'], os.environ)
`,
			"True\n[0, 1, 4, 9, 16, 25]\n300\n40425\nb'BY A SOCKET\\n'\nb'5\\n'\n[0, 1, 2, 3]\nb'0123456789'\nTrue\n[14]\n['x']\n1b977e9f84f1b26b\nby a descriptor\n",
			nil},
		{"perl", "perl", `
use Socket; $| = 1;
open(P, "seq 3 |"); print <P>; close P;
pipe(R, W); if (!fork) { close R; print W "child\n"; exit 3 } close W; print <R>; wait; print $? >> 8, "\n";
socketpair(A, B, AF_UNIX, SOCK_STREAM, 0); syswrite A, "socket\n"; sysread B, $x, 100; print $x;
$SIG{ALRM} = sub { print "alarm\n" }; alarm 1; select(undef, undef, undef, 3);
my %h = map { $_ => 1 } 1 .. 1000; print scalar(keys %h), "\n"; system("exit 5;"); print $? >> 8, "\n";
`, "1\n2\n3\nchild\n3\nsocket\nalarm\n1000\n5\n", nil},
		{"sqlite", "bash", `
			sqlite3 db "create table t(id integer primary key, v text); begin; with recursive c(x) as (select 1 union all select x+1 from c where x<20000) insert into t(v) select hex(x) from c; commit; select count(*), sum(length(v)) from t; create index i on t(v);"
			sqlite3 db "pragma journal_mode=wal; insert into t(v) values('wal'); select count(*) from t; pragma wal_checkpoint;"
			sqlite3 db "begin; delete from t; rollback; select count(*) from t; pragma integrity_check;"
			sqlite3 db "pragma busy_timeout=9000; begin immediate; insert into t(v) values('a'); commit" >/dev/null &
			sqlite3 db "pragma busy_timeout=9000; begin immediate; insert into t(v) values('b'); commit" >/dev/null; wait
			sqlite3 db "select count(*) from t"; ls`,
			"20000|177788\nwal\n20001\n0|2|2\n20001\nok\n20003\ndb\nscript\n",
			map[string]string{"db": "SQLite format 3\x00"}},
		{"git", "bash", `
			export GIT_AUTHOR_DATE=2020-01-01T00:00:00Z GIT_COMMITTER_DATE=2020-01-01T00:00:00Z GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
			git init -q -b main r; cd r
			for i in 1 2 3; do echo "file $i" >f$i; git add .; git commit -q -m "commit $i"; done
			git checkout -q -b other; echo more >>f1; git commit -qam other; git checkout -q main; git merge -q --no-ff -m merge other
			git gc -q; git fsck; git log --graph --format=%s; git status --short; cd ..; git clone -q r copy; git -C copy rev-list --count HEAD`,
			"*   merge\n|\\  \n| * other\n|/  \n* commit 3\n* commit 2\n* commit 1\n5\n",
			map[string]string{"copy/f1": "file 1\nmore\n"}},
		{"tools", "bash", `
			ps -o pid=,comm= | sed 's/^ *//' | head -1; top -b -n1 | grep -c Tasks; free | awk 'NR==1 {print $1, $2, $3}'; uptime | grep -c 'load average'
			df --output=fstype /; findmnt -no FSTYPE /proc; id; nproc; cat /proc/$$/comm; taskset -p $$ | sed 's/.*: //'; flock lock echo locked`,
			"1 bash\n1\ntotal used free\n1\nType\n9p\nproc\nuid=0(root) gid=0(root) groups=0(root)\n1\nbash\n1\nlocked\n", nil},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			root := debianDir(t)
			dir, err := os.MkdirTemp(filepath.Join(root, "tmp"), row.name)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			if err := os.WriteFile(filepath.Join(dir, "script"), []byte(row.script), 0o644); err != nil {
				t.Fatal(err)
			}
			r := vm{args: "bash -c 'cd /tmp/" + filepath.Base(dir) + " && exec " + row.interpreter + " script'",
				script: []string{"-e", root}}.run(t)
			if r.stdout != row.stdout || r.status != 0 {
				t.Errorf("wanted %q and status 0\n%v", row.stdout, r)
			}
			if strings.Contains(r.stderr, "goroutine ") {
				t.Errorf("the kernel reports a failure\n%v", r)
			}
			for name, start := range row.left {
				if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.HasPrefix(got, []byte(start)) {
					t.Errorf("the host finds %s as %q, %v", name, clip(string(got)), err)
				}
			}
		})
	}
}
