package boot

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"elver/test/need"
)

// newcomer makes a directory with build/elver in it, for lines as the README has them. What is added to them
// is which accelerator and kernel the tests want.
func newcomer(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "build"), 0o777); err != nil {
		t.Fatal(err)
	}
	wrapper := fmt.Sprintf("#!/bin/sh\n[ \"$1\" = run ] || exec '%[1]s' \"$@\"\nshift\nexec '%[1]s' run --accel tcg --kernel '%[2]s' \"$@\"\n", elverCommand(t), kernelImage)
	if err := os.WriteFile(filepath.Join(dir, "build/elver"), []byte(wrapper), 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// line runs a line of a shell in dir.
func line(t testing.TB, dir, text string) result {
	t.Helper()
	vms <- struct{}{}
	defer func() { <-vms }()
	r := execute(patience, "", []string{"sh", "-c", `cd "$0" && eval "$1"`, dir, text})
	if r.status < 0 {
		t.Fatalf("%s: no end\n%v", text, r)
	}
	return r
}

// TestNewcomer runs lines of the README: each works, or says in a sentence what to do.
func TestNewcomer(t *testing.T) {
	t.Parallel()
	dir := newcomer(t)
	for name, content := range map[string]string{
		"script.py": "import os, sys; print(os.getcwd(), sys.argv); open('out', 'w').write('by python')\n",
		"letter":    "dear host\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(passwd), "\n")
	for _, row := range []struct {
		line   string
		python bool     // needs python-rootfs/
		stdout []string // that are lines of it
		stderr string   // empty: nothing at all
		status int
	}{
		{line: "build/elver run /bin/ls -la /", stdout: []string{"total 0"}},
		{line: "build/elver run -v .:/app -w /app python-rootfs/ python3 script.py", python: true, stdout: []string{"/app ['script.py']"}},
		{line: "build/elver run tar -- c . | tar t", stdout: []string{"./etc/passwd", "./usr/bin/tar", "./proc/1/status"}},
		{line: "build/elver run tar c . >archive; echo $?", stdout: []string{"0"}},
		{line: "build/elver run -v .:/host -w /host cat letter", stdout: []string{"dear host"}},
		{line: "build/elver run --read-only -w /etc / head -n 1 passwd", stdout: []string{first}},
		{line: "build/elver run cat letter", stderr: "share its directory by -v .:/host -w /host", status: 1},
		{line: "build/elver run cat \"$PWD/letter\"", stderr: "share its directory by -v " + dir + ":" + dir, status: 1},
		{line: "build/elver run cat nonesuch", stderr: "cat: nonesuch: No such file or directory\n", status: 1},
		{line: "build/elver run letter", stderr: "elver: letter is neither a program", status: 126},
		{line: "build/elver ls -la", stderr: "to run a program: elver run ls", status: 125},
		{line: "build/elver run", stderr: "what is to run?", status: 125},
	} {
		t.Run(row.line, func(t *testing.T) {
			if row.python {
				if err := os.Symlink(debianDir(t), filepath.Join(dir, "python-rootfs")); err != nil {
					t.Fatal(err)
				}
			}
			r := line(t, dir, row.line)
			for _, want := range row.stdout {
				if !strings.Contains("\n"+r.stdout, "\n"+want+"\n") {
					t.Errorf("no line %q", want)
				}
			}
			if r.status != row.status || !strings.Contains(r.stderr, row.stderr) || row.stderr == "" && r.stderr != "" || strings.Count(r.stderr, "\n") > 2 {
				t.Errorf("wanted status %d and %q\n%v", row.status, row.stderr, r)
			}
		})
	}
	if b, err := os.ReadFile(filepath.Join(dir, "out")); !t.Failed() && string(b) != "by python" {
		t.Errorf("the script's file: %q, %v", b, err)
	}
	t.Run("inspect", func(t *testing.T) {
		need.Command(t, "git")
		if r := line(t, dir, "build/elver inspect /usr/bin/git"); r.status != 0 || !strings.Contains(r.stdout, "verdict       it should run") || !strings.Contains(r.stdout, "libc.so.6") {
			t.Errorf("%v", r)
		}
	})
}

// TestNewcomerServer runs an image with Debian's nginx, as docker's own of it is made: a script that execs its
// arguments, log files that are links to the standard streams.
func TestNewcomerServer(t *testing.T) {
	t.Parallel()
	root := serversRoot.dir(t)
	var packages bytes.Buffer
	tar := exec.Command("tar", "-C", root, "-c", "--exclude=./tmp", "--exclude=./var/log", "--exclude=./var/lib/nginx", "--exclude=./etc/passwd", "--exclude=./etc/group", ".")
	tar.Stdout, tar.Stderr = &packages, os.Stderr
	if err := tar.Run(); err != nil {
		t.Fatal(err)
	}
	const link, directory = '2', '5'
	own := layer(t,
		record{name: "etc/passwd", content: "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n", mode: 0o644},
		record{name: "etc/group", content: "root:x:0:\nwww-data:x:33:\n", mode: 0o644},
		record{name: "var/log/nginx/access.log", link: "/dev/stdout", kind: link}, record{name: "var/log/nginx/error.log", link: "/dev/stderr", kind: link},
		record{name: "var/lib/nginx", kind: directory},
		record{name: "srv/index.html", content: "served by nginx\n", mode: 0o644},
		record{name: "etc/nginx/nginx.conf", mode: 0o644, content: "user www-data; worker_processes 2; pid /run/nginx.pid; error_log /var/log/nginx/error.log; events { }\n" +
			"http { access_log /var/log/nginx/access.log; server { listen 80; root /srv; } }\n"},
		record{name: "run", kind: directory},
		record{name: "entrypoint.sh", content: "#!/bin/bash\necho \"starting $*\"; exec \"$@\"\n"})
	dir := newcomer(t)
	image := dockerSave(t, imageConfig{Entrypoint: []string{"/entrypoint.sh"}, Cmd: []string{"nginx", "-g", "daemon off;"},
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}}, packages.Bytes(), own)
	if err := os.Rename(image, filepath.Join(dir, "nginx.tar")); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	vms <- struct{}{}
	defer func() { <-vms }()
	cmd := exec.Command("sh", "-c", fmt.Sprintf("exec build/elver run -p %d:80 nginx.tar", port))
	cmd.Dir = dir
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stuck := time.AfterFunc(2*patience, func() { cmd.Process.Kill() })
	defer stuck.Stop()
	if body := fetch(t, fmt.Sprintf("http://127.0.0.1:%d/", port)); body != "served by nginx\n" {
		t.Errorf("got %q", body)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	cmd.Wait()
	// nginx ends well when it gets SIGTERM.
	if status := cmd.ProcessState.ExitCode(); status != 0 || !strings.HasPrefix(out.String(), "starting nginx -g daemon off;\n") ||
		!strings.Contains(out.String(), `"GET / HTTP/1.1" 200 16 "-"`) || errs.Len() != 0 {
		t.Errorf("status %d\n%s\n%s", status, &out, &errs)
	}
}
