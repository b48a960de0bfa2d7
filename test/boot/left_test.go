package boot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What is run to see whether anything of it is left in the kernel, a command a line.
const (
	quickCommands = `
for i in 1 2 3; do x=$(echo $i | cat); a[i]=$x; done; cat <<< "${a[*]}" >here
cp -a /etc etc; ls -laR etc | sort | sha256sum >sum; dd if=/dev/zero of=z bs=4k count=500 status=none; tail -c 10 z | tr '\0' x | wc -c >n; df / >n; du -s etc >n; stat z >n
ln -s z s; ln z h; mv z y; touch -d 2001-01-01 y; truncate -s 5 y; mkfifo fifo; cat fifo >n & echo x >fifo; wait; rm -r etc h s y fifo
python3 -c 'import os; [os.stat("/usr/lib/python3.11/" + f) for f in os.listdir("/usr/lib/python3.11")]; open("u", "w+"); os.unlink("u"); list(os.walk("/usr/lib/python3"))'
python3 -c 'import json, threading, hashlib, zlib, mmap, tempfile, asyncio; t = threading.Thread(target=str); t.start(); t.join(); f = tempfile.TemporaryFile(dir="."); f.write(b"x" * 100000); f.flush(); m = mmap.mmap(f.fileno(), 0); m[5] = 65'
sqlite3 db 'pragma journal_mode=wal; create table t(a); with recursive c(x) as (select 1 union all select x+1 from c where x<20000) insert into t select x from c; select count(*) from t' >n; sqlite3 db 'select count(*) from t; drop table t' >n; rm db*
perl -e 'open F, ">f"; print F "x" x 99999; close F; unlink "f"; fork; wait'
git init -q r && cd r && git config user.email a@b && git config user.name a && echo x >f && git add f && git commit -qm m && git log --oneline >log && git gc -q; cd ..; rm -rf r
tar cf t.tar -C /usr/lib/python3.11 email json && mkdir u && tar xf t.tar -C u && gzip t.tar && gzip -dc t.tar.gz | sha256sum >sum; rm -r u t.tar.gz
bash -c 'kill -SEGV $$' 2>n; cat /usr/bin/git >n & kill $!; wait; timeout -s KILL 0.3 grep -r nosuchthing /usr/lib; strace -f -o n ls >/dev/null; flock n true
ls /nosuchdir /etc/passwd/x 2>n; cat /usr/bin 2>n; echo x 2>n >/usr/bin; mkdir /etc 2>n; rmdir / /usr 2>n; mv /usr /etc/passwd 2>n; ln /nosuch n2 2>n; : >/nosuchdir/f; true
`
	soakCommands = `
lua5.4 -e 'for l in io.lines("/etc/services") do end local f = io.tmpfile() f:write(("x"):rep(1e6))'
ruby -e 'require "json"; require "digest"; t = (1..4).map { |i| Thread.new { i * 2 } }; t.map(&:value); File.write("f", "x" * 100000); Digest::SHA256.file("f").hexdigest; fork { exit!(0) }; Process.wait'
echo 'const {Worker, isMainThread} = require("worker_threads"); if (isMainThread) for (let i = 0; i < 3; i++) new Worker(__filename)' >w.js; node w.js
printf 'public class G { public static void main(String[] a) throws Exception { Thread[] t = new Thread[4]; for (int i = 0; i < 4; i++) { t[i] = new Thread(() -> { for (int k = 0; k < 2000; k++) { byte[] b = new byte[10000]; } }); t[i].start(); } for (Thread x : t) x.join(); System.gc(); } }' >G.java; java -Xmx100m G.java
seq 7000000 | head -c 50M >big; for c in 'gzip -1' 'xz -0 -T1' 'zstd -q' 'bzip2 -1'; do $c -c big >z; ${c%% *} -dc z | cmp - big || exit 1; done; openssl dgst -sha256 big >sum; rm big z
for m in ast asyncio bz2 calendar csv ctypes curses datetime decimal difflib dis email fractions ftplib getpass glob html http.client imaplib inspect ipaddress json logging lzma mailbox mimetypes multiprocessing netrc optparse pdb pickle platform plistlib poplib pprint profile pydoc queue random re sched secrets selectors shelve smtplib socketserver sqlite3 ssl statistics subprocess symtable tarfile telnetlib tempfile textwrap timeit tokenize trace unittest uuid venv wave xml.dom.minidom xmlrpc.client zipapp zipfile; do echo "import $m"; done | python3
perl -MFile::Find -MStorable -MEncode -e 'find(sub { -s }, "/usr/share/perl"); store({a => [1 .. 1000]}, "st"); retrieve("st")'
vim.tiny -Nes -u NONE -c 'normal ihello' -c 'wq! v' && grep -q hello v; tmux -S tm -f /dev/null new-session -d 'sleep 0.2'; while [ -S tm ] && tmux -S tm ls 2>n; do sleep 0.1; done; rm -f tm
redis-server --port 0 --unixsocket s --save '' --daemonize yes >n; until redis-cli -s s ping 2>n | grep -q PONG; do sleep 0.1; done; redis-cli -s s debug populate 1000 >n; redis-cli -s s save >n; redis-cli -s s shutdown nosave; while pgrep redis >n; do sleep 0.1; done
`
)

// leavesNothing runs commands by the program counted on a 9p root: frames and fids in use return to what they were
// before, after each of them.
func leavesNothing(t *testing.T, r *debianRoot, commands string, mem int, timeout time.Duration) {
	t.Parallel()
	root := r.dir(t)
	dir, err := os.MkdirTemp(filepath.Join(root, "tmp"), "left")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.WriteFile(filepath.Join(dir, "commands"), []byte(strings.TrimSpace(commands)+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	got := vm{program: build(t, staticPIE, "counted"), args: `env.vars=[ "PWD=/tmp/` + filepath.Base(dir) + `" ] -- commands`,
		script: []string{"-e", root}, mem: mem, timeout: timeout}.run(t)
	if !strings.HasSuffix(got.stdout, "counted: ok\n") || got.status != 0 {
		t.Errorf("something is left, or a command failed\n%v", got)
	}
}

func TestNothingLeftInKernel(t *testing.T) {
	t.Run("quick", func(t *testing.T) { leavesNothing(t, quickRoot, quickCommands, 512, 5*time.Minute) })
	if soak {
		t.Run("soak", func(t *testing.T) { leavesNothing(t, soakRoot, soakCommands, 1500, time.Hour) })
	}
}
