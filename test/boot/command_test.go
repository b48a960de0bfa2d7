package boot

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var buildElver = sync.OnceValues(func() (string, string) {
	path := filepath.Join(cache, "bin/elver")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/elver")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", "go build ./cmd/elver: " + err.Error() + "\n" + string(out)
	}
	return path, ""
})

// elverCommand returns the path of the command elver, made for the tests.
func elverCommand(t testing.TB) string {
	t.Helper()
	path, problem := buildElver()
	if problem != "" {
		t.Fatal(problem)
	}
	return path
}

// run returns the words of "elver run" with the options that the tests want.
func run(t testing.TB, words ...string) []string {
	t.Helper()
	return append([]string{elverCommand(t), "run", "--accel", "tcg", "--kernel", kernelImage}, words...)
}

// elver runs "elver run" and waits for its end.
func elver(t testing.TB, stdin string, words ...string) result {
	t.Helper()
	vms <- struct{}{}
	defer func() { <-vms }()
	r := execute(patience, stdin, run(t, words...))
	if r.status < 0 {
		t.Fatalf("%q: no end\n%v", words, r)
	}
	return r
}

// record is a file of an archive.
type record struct {
	name, content, link string
	kind                byte
	mode                int64
	uid                 int
}

// layer makes a tar archive.
func layer(t testing.TB, records ...record) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, r := range records {
		h := tar.Header{Name: r.name, Linkname: r.link, Typeflag: r.kind, Mode: r.mode, Uid: r.uid, Gid: r.uid, Size: int64(len(r.content)), Format: tar.FormatPAX}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, r.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// imageConfig is what an image's configuration says of running it.
type imageConfig struct {
	Entrypoint, Cmd, Env []string
	User, WorkingDir     string
	StopSignal           string `json:",omitempty"`
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func configFile(t testing.TB, c imageConfig, layers [][]byte) []byte {
	t.Helper()
	var diffs []string
	for _, l := range layers {
		diffs = append(diffs, "sha256:"+digest(l))
	}
	b, err := json.Marshal(map[string]any{"architecture": "amd64", "os": "linux", "config": c,
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffs}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// dockerSave makes an archive as docker save does.
func dockerSave(t testing.TB, c imageConfig, layers ...[]byte) string {
	t.Helper()
	config := configFile(t, c, layers)
	records := []record{{name: digest(config) + ".json", content: string(config)}}
	var names []string
	for i, l := range layers {
		name := fmt.Sprintf("layer%d/layer.tar", i)
		names = append(names, name)
		records = append(records, record{name: name, content: string(l)})
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": digest(config) + ".json", "RepoTags": []string{"test:latest"}, "Layers": names}})
	if err != nil {
		t.Fatal(err)
	}
	records = append(records, record{name: "manifest.json", content: string(manifest)})
	return write(t, "image.tar", layer(t, records...))
}

// ociLayout makes the directory of an OCI image layout, whose layers are compressed.
func ociLayout(t testing.TB, c imageConfig, layers ...[]byte) string {
	t.Helper()
	dir := t.TempDir()
	blob := func(kind string, b []byte) map[string]any {
		path := filepath.Join(dir, "blobs/sha256", digest(b))
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		return map[string]any{"mediaType": "application/vnd.oci.image." + kind, "digest": "sha256:" + digest(b), "size": len(b)}
	}
	toJSON := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var descriptors []any
	for _, l := range layers {
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		w.Write(l)
		w.Close()
		descriptors = append(descriptors, blob("layer.v1.tar+gzip", z.Bytes()))
	}
	manifest := blob("manifest.v1+json", toJSON(map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"config": blob("config.v1+json", configFile(t, c, layers)), "layers": descriptors}))
	manifest["platform"] = map[string]any{"os": "linux", "architecture": "amd64"}
	foreign := map[string]any{"mediaType": manifest["mediaType"], "digest": "sha256:" + digest(nil), "size": 0, "platform": map[string]any{"os": "linux", "architecture": "arm64"}}
	for name, b := range map[string][]byte{
		"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`),
		"index.json": toJSON(map[string]any{"schemaVersion": 2, "manifests": []any{foreign, manifest}}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// archived makes a tar archive of a directory.
func archived(t testing.TB, dir string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "archive.tar")
	if out, err := exec.Command("tar", "-C", dir, "-cf", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

func busyboxRecords(t testing.TB) []record {
	t.Helper()
	b, err := os.ReadFile(busybox(t))
	if err != nil {
		t.Fatal(err)
	}
	return []record{{name: "bin/busybox", content: string(b)}, {name: "bin/sh", link: "busybox", kind: tar.TypeSymlink}}
}

// TestImages runs the same image out of every kind of archive.
func TestImages(t *testing.T) {
	t.Parallel()
	config := imageConfig{
		Entrypoint: []string{"/entry.sh", "first"}, Cmd: []string{"second word", "$3 'quoted'"},
		Env:  []string{"PATH=/opt/bin:/bin", "GREETING=hello  world"},
		User: "app", WorkingDir: "/app/dir",
	}
	lower := layer(t, append(busyboxRecords(t),
		record{name: "etc/passwd", content: "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n", mode: 0o644},
		record{name: "etc/group", content: "app:x:1001:\nextra:x:1002:other,app\n", mode: 0o644},
		record{name: "entry.sh", content: "#!/bin/sh\nfor a; do echo \"[$a]\"; done\nid; pwd\necho \"$GREETING $HOME\"\nfind /data | sort\ncat /data/link\n[ /data/a -ef /data/link ] && echo same\nstat -c '%u %a' /data/a\ncat\nexit 3\n"},
		record{name: "data/a", content: "a\n", mode: 0o604, uid: 1000}, record{name: "data/link", link: "data/a", kind: tar.TypeLink},
		record{name: "data/gone", content: "x"}, record{name: "data/opaque/old", content: "x"}, record{name: "data/dir/gone/x", content: "x"})...)
	upper := layer(t, record{name: "data/.wh.gone"}, record{name: "data/opaque/.wh..wh..opq"}, record{name: "data/opaque/new", content: "n"},
		record{name: "data/dir/.wh.gone"})
	want := "[first]\n[second word]\n[$3 'quoted']\nuid=1000(app) gid=1001(app) groups=1001(app),1002(extra)\n/app/dir\nhello  world /home/app\n" +
		"/data\n/data/a\n/data/dir\n/data/link\n/data/opaque\n/data/opaque/new\na\nsame\n1000 604\nfrom the host\n"
	layout := ociLayout(t, config, lower, upper)
	for name, image := range map[string]string{
		"docker-save": dockerSave(t, config, lower, upper), "oci-layout": layout, "oci-archive": archived(t, layout),
	} {
		t.Run(name, func(t *testing.T) {
			r := elver(t, "from the host\n", image)
			if r.stdout != want || r.status != 3 || r.stderr != "" {
				t.Errorf("wanted %q and status 3\n%v", want, r)
			}
		})
	}
	// Shared from a directory, with owners and types that the host's user couldn't give.
	t.Run("unpacked", func(t *testing.T) {
		special := layer(t, record{name: "special/null", kind: tar.TypeChar, mode: 0o666}, record{name: "special/fifo", kind: tar.TypeFifo, mode: 0o640, uid: 12},
			record{name: "special/link", link: "/data/a", kind: tar.TypeSymlink}, record{name: "special/su", content: "x", mode: 0o4755, uid: 13}, record{name: "special/empty", kind: tar.TypeDir, mode: 0o1777})
		tmp := t.TempDir()
		unpacked := func(stdin, image string) result {
			vms <- struct{}{}
			defer func() { <-vms }()
			return execute(patience, stdin, append([]string{"env", "TMPDIR=" + tmp}, run(t, "--unpack", image)...))
		}
		r := unpacked("from the host\n", dockerSave(t, config, lower, upper, special))
		if r.stdout != want || r.status != 3 || r.stderr != "" {
			t.Errorf("wanted %q and status 3\n%v", want, r)
		}
		c := config
		c.Entrypoint, c.User = []string{"/bin/sh", "-c"}, "0"
		c.Cmd = []string{"cd /special; stat -c '%n %F %u:%g %a' *; readlink link; cat link; ls -lR /data /special >/dev/null && chown 3:4 su && mknod null2 c 1 3 && ln -s x dangling && mv su us && ln us us2 && rm -r empty && stat -c '%n %F %u:%g %a %t:%T' *; rm us us2; rmdir ../special 2>&1"}
		r = unpacked("", dockerSave(t, c, lower, upper, special))
		want := "empty directory 0:0 1777\nfifo fifo 12:12 640\nlink symbolic link 0:0 777\nnull character special file 0:0 666\nsu regular file 13:13 4755\n/data/a\na\n" +
			"dangling symbolic link 0:0 777 0:0\nfifo fifo 12:12 640 0:0\nlink symbolic link 0:0 777 0:0\nnull character special file 0:0 666 0:0\nnull2 character special file 0:0 644 1:3\nus regular file 3:4 755 0:0\nus2 regular file 3:4 755 0:0\n" +
			"rmdir: '../special': Directory not empty\n"
		if r.stdout != want || r.status != 1 || r.stderr != "" {
			t.Errorf("wanted %q\n%v", want, r)
		}
		if left, _ := os.ReadDir(tmp); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	t.Run("options", func(t *testing.T) {
		r := elver(t, "", "-u", "5:6", "-w", "/elsewhere", "-e", "GREETING=bye", "-e", "HOME=/h", "--hostname", "box", layout, "--", "x")
		want := strings.NewReplacer("[second word]\n[$3 'quoted']", "[x]", "uid=1000(app) gid=1001(app) groups=1001(app),1002(extra)", "uid=5 gid=6 groups=6",
			"/app/dir", "/elsewhere", "hello  world /home/app", "bye /h", "from the host\n", "").Replace(want)
		if r.stdout != want || r.status != 3 {
			t.Errorf("wanted %q and status 3\n%v", want, r)
		}
	})
	t.Run("plain", func(t *testing.T) {
		r := elver(t, "", write(t, "root.tar", lower), "/bin/sh", "-c", "ls /; cat /data/gone; hostname")
		if !strings.HasPrefix(r.stdout, "bin\ndata\n") || !strings.HasSuffix(r.stdout, "xelver\n") || r.status != 0 {
			t.Errorf("%v", r)
		}
	})
}

// TestHostileImage: what an image says reaches neither the host's files nor QEMU's options nor Elver's
// parameters.
func TestHostileImage(t *testing.T) {
	t.Parallel()
	canary := t.TempDir()
	strange := []string{"a' -device foo,x=y", "--", "elver.strace=1", "virtio_mmio.device=4K@0xfeb00000:5", "]", "", "x,readonly=on\n-append y", "`touch " + canary + "/x`$(id)", "\\", "\""}
	image := dockerSave(t, imageConfig{
		Entrypoint: append([]string{"/bin/sh", "-c", `for a; do printf '<%s>' "$a"; done; printf '<%s>' "$ODD" "$(pwd)"; cat /escape`, "sh"}, strange...),
		Env:        []string{"PATH=/bin", "ODD=] elver.strace=1 -- 'x", "elver.log=debug"},
		WorkingDir: "/a,b c/'d]", User: "0",
	}, layer(t, append(busyboxRecords(t),
		record{name: "../../../../../../../../.." + canary + "/traversal", content: "x"},
		record{name: canary + "/absolute", content: "x"},
		record{name: "out", link: "../../../../../../.." + canary, kind: tar.TypeSymlink},
		record{name: "out/through", content: "x"},
		record{name: "escape", link: "../../../../../../../../.." + canary + "/absolute", kind: tar.TypeLink})...))
	r := elver(t, "", image)
	want := "<" + strings.Join(strange, "><") + "><] elver.strace=1 -- 'x></a,b c/'d]>x"
	if r.stdout != want || r.status != 0 || r.stderr != "" {
		t.Errorf("wanted %q\n%v", want, r)
	}
	if left, _ := os.ReadDir(canary); len(left) != 0 {
		t.Errorf("the host has %v", left)
	}
	for name, c := range map[string]imageConfig{
		"user": {Entrypoint: []string{"/bin/sh"}, User: "0,x=y"}, "user option": {Entrypoint: []string{"/bin/sh"}, User: "0:0 elver.strace=1"},
		"NUL": {Entrypoint: []string{"/bin/sh", "a\x00b"}},
	} {
		if r := elver(t, "", dockerSave(t, c, layer(t, busyboxRecords(t)...))); r.status != 125 || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("%s: wanted a sentence and status 125\n%v", name, r)
		}
	}
}

// TestElverRun runs programs and directories of the host.
func TestElverRun(t *testing.T) {
	t.Parallel()
	box := busybox(t)
	rootDir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(rootDir, "bin"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(box, filepath.Join(rootDir, "bin/sh")); err != nil {
		b, err := os.ReadFile(box)
		if err == nil {
			err = os.WriteFile(filepath.Join(rootDir, "bin/sh"), b, 0o777)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	// A name that QEMU and shells would trip over.
	work := filepath.Join(t.TempDir(), "a,b 'c\" d,,e")
	if err := os.MkdirAll(work, 0o777); err != nil {
		t.Fatal(err)
	}
	odd := filepath.Join(work, "odd, name")
	if err := os.Symlink(build(t, staticPIE, "args"), odd); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(work, "script.sh")
	if err := os.WriteFile(script, []byte("#!/usr/bin/env sh\necho \"$0:$1\"\n"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(work, "list"), []byte("# comment\nONE=1\n\nTWO=a b\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name          string
		stdin         string
		words         []string
		stdout, error string // error: contained in stderr
		status        int
	}{
		{name: "static", words: []string{build(t, staticPIE, "helloworld")}, stdout: hello},
		{name: "argv", words: []string{odd, "one", "two three", ""}, stdout: "argv[0]=" + odd + "\nargv[1]=one\nargv[2]=two three\nargv[3]=\n"},
		{name: "dynamic", words: []string{"/bin/ls", "/usr/bin/ls", "/etc/passwd"}, stdout: "/etc/passwd\n/usr/bin/ls\n"},
		{name: "streams", words: []string{box, "--", "sh", "-c", "cat; echo error >&2; echo again >/dev/stderr; exit 200"}, stdin: "a\x10\x04\x00b\xff", stdout: "a\x10\x04\x00b\xff", error: "error\nagain\n", status: 200},
		{name: "script", words: []string{script, "x y"}, stdout: script + ":x y\n"},
		{name: "signal", words: []string{"sh", "-c", "kill -9 $$"}, error: "sh: killed by SIGKILL", status: 137},
		{name: "environment", words: []string{"--env-file", filepath.Join(work, "list"), "-eTWO=2", "-e", "THREE", box, "sh", "-c", "echo $ONE $TWO $THREE"}, stdout: "1 2\n"},
		{name: "init", words: []string{"--init", "sh", "-c", "echo $$"}, stdout: "2\n"},
		{name: "volume", words: []string{"-v", work + ":/mnt/x", "-w", "/mnt/x", "cat", "list"}, stdout: "# comment\nONE=1\n\nTWO=a b\n"},
		{name: "read-only volume", words: []string{"-v", work + ":/x:ro", box, "sh", "-c", "echo >/x/new"}, error: "Read-only file system", status: 1},
		{name: "directory", words: []string{"-v", work + ":/deep/er", "-w", "/deep/er", rootDir, "sh", "-c", "pwd; echo written >/new; ls"}, stdout: "/deep/er\nlist\nodd, name\nscript.sh\n"},
		{name: "read-only directory", words: []string{"--read-only", rootDir, "sh", "-c", "echo x >/tmp/x && cat /tmp/x; echo y >/y"}, stdout: "x\n", error: "Read-only file system", status: 1},
		{name: "no init", words: []string{rootDir}, error: "name a program", status: 125},
		{name: "not in the root", words: []string{rootDir, "nonesuch"}, error: "nonesuch: there is no such program", status: 127},
		{name: "not there", words: []string{"./nonesuch"}, error: "elver: there is no ./nonesuch here", status: 127},
		{name: "not in PATH", words: []string{"nonesuch-program"}, error: "nor in PATH", status: 127},
		{name: "not a program", words: []string{filepath.Join(work, "list")}, error: "neither a program", status: 126},
		{name: "option", words: []string{"--nonsense", "ls"}, error: "there is no option --nonsense", status: 125},
		{name: "volume missing", words: []string{"-v", "/nonesuch:/x", "ls"}, error: "there is no directory /nonesuch", status: 125},
		{name: "memory", words: []string{"-m", "4", build(t, staticPIE, "helloworld")}, error: "memory", status: 125},
		{name: "microvm", words: []string{"--machine", "microvm", "-m", "128M", "-v", work + ":/x", "--ip", "10.1.2.9", box, "sh", "-c", "ls /x; ip -4 addr show eth0 | grep -o '10.1.2.[0-9]*/24'"}, stdout: "list\nodd, name\nscript.sh\n10.1.2.9/24\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := elver(t, row.stdin, row.words...)
			ok := r.stdout == row.stdout || row.name == "argv" && strings.HasPrefix(r.stdout, row.stdout)
			if !ok || r.status != row.status || !strings.Contains(r.stderr, row.error) || row.error == "" && r.stderr != "" {
				t.Errorf("wanted %q, status %d, %q\n%v", row.stdout, row.status, row.error, r)
			}
		})
	}
	if b, err := os.ReadFile(filepath.Join(rootDir, "new")); string(b) != "written\n" {
		t.Errorf("the shared directory's new file: %q, %v", b, err)
	}
	for _, name := range []string{"deep", "dev", "tmp", "y"} {
		if _, err := os.Lstat(filepath.Join(rootDir, name)); err == nil {
			t.Errorf("%s was made on the host", name)
		}
	}
}

// TestElverPublish serves HTTP out of an image, until the power button.
func TestElverPublish(t *testing.T) {
	t.Parallel()
	image := dockerSave(t, imageConfig{Entrypoint: []string{"/bin/busybox", "httpd", "-f", "-h", "/www"}, User: "33:33"},
		layer(t, append(busyboxRecords(t), record{name: "www/index.html", content: "served\n", mode: 0o644})...))
	port := freePort(t)
	cmd := exec.Command(elverCommand(t))
	cmd.Args = run(t, "-p", fmt.Sprintf("127.0.0.1:%d:80", port), image)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	vms <- struct{}{}
	defer func() { <-vms }()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	if body := fetch(t, fmt.Sprintf("http://127.0.0.1:%d/", port)); body != "served\n" {
		t.Errorf("got %q", body)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer timer.Stop()
	cmd.Wait()
	if status := cmd.ProcessState.ExitCode(); status != 143 {
		t.Errorf("status %d, wanted 143\n%s", status, errs.String())
	}
}

// TestElverStopSignal: SIGTERM to the command reaches the program as the signal that its image or the option
// names.
func TestElverStopSignal(t *testing.T) {
	t.Parallel()
	config := imageConfig{Entrypoint: []string{"/bin/sh", "-c", `trap "echo quit; exit 7" QUIT; trap "echo term; exit 8" TERM; /bin/busybox sleep 1000 & echo up; wait`}}
	plain := dockerSave(t, config, layer(t, busyboxRecords(t)...))
	config.StopSignal = "SIGQUIT"
	quits := dockerSave(t, config, layer(t, busyboxRecords(t)...))
	for _, row := range []struct {
		words  []string
		output string
		status int
	}{
		{[]string{quits}, "up\nquit\n", 7},
		{[]string{"--init", quits}, "up\nquit\n", 7},
		{[]string{"--stop-signal", "15", quits}, "up\nterm\n", 8},
		{[]string{"--stop-signal=QUIT", plain}, "up\nquit\n", 7},
		{[]string{plain}, "up\nterm\n", 8},
	} {
		cmd := exec.Command(elverCommand(t))
		cmd.Args = run(t, row.words...)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		var errs bytes.Buffer
		cmd.Stderr = &errs
		vms <- struct{}{}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		stuck := time.AfterFunc(patience, func() { cmd.Process.Kill() })
		up := make([]byte, 3)
		io.ReadFull(out, up)
		cmd.Process.Signal(syscall.SIGTERM)
		rest, _ := io.ReadAll(out)
		cmd.Wait()
		stuck.Stop()
		<-vms
		if status := cmd.ProcessState.ExitCode(); status != row.status || string(up)+string(rest) != row.output || errs.Len() != 0 {
			t.Errorf("%q: %q, status %d, wanted %q, %d\n%s", row.words, string(up)+string(rest), status, row.output, row.status, &errs)
		}
	}
	if r := elver(t, "", "--stop-signal", "SIGNONE", plain); r.status != 125 || !strings.Contains(r.stderr, `"SIGNONE" is no signal`) || strings.Count(r.stderr, "\n") != 1 {
		t.Errorf("%v", r)
	}
}

// TestElverTerminal: on a terminal Ctrl-C goes to the program, Ctrl-A x ends the machine, and the terminal is
// as before.
func TestElverTerminal(t *testing.T) {
	t.Parallel()
	t.Run("shell", func(t *testing.T) {
		term := onTerminal(t, run(t, busybox(t), "sh"))
		term.expect("# ")
		term.send("echo one$((1+1)) $TERM; tty\r")
		term.expect("one2 ")
		term.expect("/dev/console\r\n")
		term.send("sleep 100\r")
		time.Sleep(300 * time.Millisecond)
		term.send("\x03")
		term.expect("# ")
		term.send("exit 42\r")
		term.end(42)
	})
	for name, words := range map[string][]string{"size": run(t, busybox(t), "stty", "size"), "size by script": vm{program: busybox(t), args: "busybox stty size"}.command()} {
		t.Run(name, func(t *testing.T) {
			term := onTerminal(t, words)
			term.expect("33 99\r\n")
			term.end(0)
		})
	}
	t.Run("monitor key", func(t *testing.T) {
		term := onTerminal(t, run(t, build(t, staticPIE, "echo")))
		term.send("a\r")
		term.expect("a\r\na\r\n")
		term.send("\x01x")
		term.end(125)
	})
}

// qemuOf returns the process id of the QEMU that a command runs.
func qemuOf(t *testing.T, pid int) int {
	t.Helper()
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		children, _ := os.ReadFile(task)
		for _, child := range strings.Fields(string(children)) {
			name, _ := os.ReadFile("/proc/" + child + "/comm")
			if n, _ := strconv.Atoi(child); strings.HasPrefix(string(name), "qemu-system") {
				return n
			}
		}
	}
	t.Fatal("cannot tell which process is QEMU")
	return 0
}

// TestElverSignals: whatever ends the command ends the machine, and nothing is left behind.
func TestElverSignals(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		signal syscall.Signal
		status int // -1: killed
	}{
		{"power button", syscall.SIGTERM, 143},
		{"hangup", syscall.SIGHUP, 143},
		{"interrupt", syscall.SIGINT, 130},
		{"kill", syscall.SIGKILL, -1},
	} {
		t.Run(row.name, func(t *testing.T) {
			// Who started the tests may have them ignore the signal, and what they start: a handler takes that back.
			handled := make(chan os.Signal, 1)
			signal.Notify(handled, row.signal)
			defer signal.Stop(handled)
			tmp := t.TempDir()
			words := run(t, "-w", "/tmp", build(t, staticPIE, "echo"))
			vms <- struct{}{}
			defer func() { <-vms }()
			cmd := exec.Command(words[0], words[1:]...)
			cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			stuck := time.AfterFunc(patience, func() { cmd.Process.Kill() })
			defer stuck.Stop()
			io.WriteString(in, "up\n")
			line := make([]byte, 3)
			if _, err := io.ReadFull(out, line); err != nil {
				t.Fatal(err)
			}
			qemu := qemuOf(t, cmd.Process.Pid)
			start := time.Now()
			cmd.Process.Signal(row.signal)
			io.Copy(io.Discard, out) // until nobody holds it any more
			cmd.Wait()
			if status := cmd.ProcessState.ExitCode(); status != row.status || time.Since(start) > time.Minute {
				t.Errorf("status %d after %v, wanted %d", status, time.Since(start), row.status)
			}
			for range 100 {
				if syscall.Kill(qemu, 0) != nil {
					break
				}
				time.Sleep(100 * time.Millisecond)
			}
			if err := syscall.Kill(qemu, 0); err == nil {
				t.Error("QEMU is left behind")
			}
			if left, _ := os.ReadDir(tmp); len(left) != 0 && row.status >= 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// TestElverReaderGone: the reader of the output ends first, as in "| head -1".
func TestElverReaderGone(t *testing.T) {
	t.Parallel()
	words := run(t, busybox(t), "yes")
	vms <- struct{}{}
	defer func() { <-vms }()
	r := execute(patience, "", append([]string{"sh", "-c", `{ "$@"; echo "status $?" >&2; } | head -n 1`, "sh"}, words...))
	if r.stdout != "y\n" || r.stderr != "status 141\n" {
		t.Errorf("%v", r)
	}
}

// TestElverLooksInside: what a program leaves for who asks, on a share.
func TestElverLooksInside(t *testing.T) {
	t.Parallel()
	share := t.TempDir()
	r := elver(t, "", "-v", share+":/out", "--core", "/out/core.%e", "--profile=/out/kernel", "--strace=write", "--timestamps", "--summary", build(t, staticExe, "status"), "null")
	if r.status != 139 || r.stdout != "before null\n" {
		t.Errorf("%v", r)
	}
	for _, want := range []string{`(?m)^ *\d+\.\d+ write\(1, "before null\\n", 12\) += 12$`, `(?m)^peak memory: `, `(?m)^status: killed by SIGSEGV: `} {
		if !regexp.MustCompile(want).MatchString(r.stderr) {
			t.Errorf("nothing like %s\n%v", want, r)
		}
	}
	if core, err := elf.Open(filepath.Join(share, "core.status")); err != nil {
		t.Error(err)
	} else if core.Close(); core.Type != elf.ET_CORE {
		t.Errorf("the core file is of type %v", core.Type)
	}
	for _, name := range []string{"kernel.cpu.pprof", "kernel.heap.pprof"} {
		if info, err := os.Stat(filepath.Join(share, name)); err != nil || info.Size() < 100 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestElverDryRun: the printed command line runs in a shell as it is.
func TestElverDryRun(t *testing.T) {
	t.Parallel()
	r := execute(patience, "", run(t, "--dry-run", "--net", "none", "-e", "A=it's", build(t, staticPIE, "args"), "a b", "'"))
	if r.status != 0 || !strings.HasPrefix(r.stdout, "") || strings.Count(r.stdout, "\n") != 1 {
		t.Fatalf("%v", r)
	}
	vms <- struct{}{}
	defer func() { <-vms }()
	dir := t.TempDir()
	r = execute(patience, "", []string{"sh", "-c", "cd '" + dir + "' && " + r.stdout})
	if !strings.Contains(r.stdout, "argv[1]=a b") || !strings.Contains(r.stdout, "argv[2]='") || !strings.Contains(r.stdout, "A=it's") {
		t.Errorf("%v", r)
	}
}

// TestElverBuild boots what elver build made, by both protocols and by elver run.
func TestElverBuild(t *testing.T) {
	t.Parallel()
	output := filepath.Join(t.TempDir(), "app, one.kernel")
	made := func(t *testing.T, words ...string) {
		t.Helper()
		if r := execute(patience, "", append([]string{elverCommand(t), "build", "--kernel", kernelImage, "-o", output}, words...)); r.status != 0 {
			t.Fatalf("%v", r)
		}
	}
	qemu := func(t *testing.T, kernel, machine string, words ...string) result {
		t.Helper()
		return vm{kernel: kernel, raw: true, mem: 128, qemu: append([]string{"-M", machine, "-cpu", "max"}, words...)}.run(t)
	}
	config := imageConfig{Entrypoint: []string{"/bin/sh", "-c", `for a; do printf '<%s>' "$a"; done; printf '<%s>' "$A" "$(pwd)" $(id -u)`, "sh"}, Cmd: []string{"x y", "z'"},
		Env: []string{"PATH=/bin", "A=] b"}, WorkingDir: "/w", User: "7"}
	made(t, dockerSave(t, config, layer(t, busyboxRecords(t)...)))
	link := filepath.Join(t.TempDir(), "app.kernel")
	if err := os.Symlink(output, link); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(output)
	if err != nil {
		t.Fatal(err)
	}
	magic := bytes.Index(file[:8192], []byte{0x02, 0xb0, 0xad, 0x1b})
	copy(file[magic:], []byte{0, 0, 0, 0})
	pvh := write(t, "pvh.kernel", file)
	const own = "<x y><z'><] b></w><7>"
	for _, machine := range []string{"pc", "microvm"} {
		for protocol, kernel := range map[string]string{"multiboot": link, "PVH": pvh} {
			if r := qemu(t, kernel, machine); r.stdout != own {
				t.Errorf("%s by %s: %v", machine, protocol, r)
			}
		}
	}
	if r := qemu(t, link, "q35", "-append", "env.vars=A=c -- 'one more'"); r.stdout != "<one more><c></w><7>" {
		t.Errorf("with -append: %v", r)
	}
	if r := elver(t, "", output); r.stdout != own || r.status != 0 {
		t.Errorf("%v", r)
	}
	if r := elver(t, "", "-e", "A=d", output, "--", "--x"); r.stdout != "<--x><d></w><7>" || r.status != 0 {
		t.Errorf("%v", r)
	}

	// A program, with what it needs.
	made(t, "-e", "A=1", "/usr/bin/env", "--", "-u", "PATH", "-u", "HOME", "-u", "TERM")
	if r := elver(t, "", output); r.stdout != "A=1\n" || r.status != 0 {
		t.Errorf("%v", r)
	}

	// A large directory.
	size, mem := 48<<20, 128
	if soak {
		size, mem = 800<<20, 1024
	}
	dir := t.TempDir()
	for _, err := range []error{
		os.Mkdir(filepath.Join(dir, "bin"), 0o755), os.Symlink("busybox", filepath.Join(dir, "bin/sh")),
		os.WriteFile(filepath.Join(dir, "large"), bytes.Repeat([]byte("0123456789abcdef"), size/16), 0o644), os.Link(filepath.Join(dir, "large"), filepath.Join(dir, "same")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	box, err := os.ReadFile(busybox(t))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "bin/busybox"), box, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	made(t, dir, "sh", "-c", "ls / | head -3; [ /large -ef /same ] && wc -c </large; tail -c 5 /same")
	r := vm{kernel: link, raw: true, mem: mem, timeout: 3 * time.Minute}.run(t)
	if r.stdout != fmt.Sprintf("bin\ndev\nlarge\n%d\nbcdef", size) {
		t.Errorf("%v", r)
	}
}

// TestElverEmbedded: the command that make builds has the kernel inside.
func TestElverEmbedded(t *testing.T) {
	t.Parallel()
	made := filepath.Join(root, "build/elver")
	if _, err := os.Stat(made); err != nil {
		t.Fatal("there is no build/elver: make builds it")
	}
	cmd := exec.Command(made, "run", "--accel", "tcg", build(t, staticPIE, "helloworld"))
	cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+t.TempDir())
	vms <- struct{}{}
	defer func() { <-vms }()
	stuck := time.AfterFunc(patience, func() { cmd.Process.Signal(syscall.SIGTERM) })
	defer stuck.Stop()
	if out, err := cmd.Output(); string(out) != hello || err != nil {
		t.Errorf("%q, %v", out, err)
	}
}

// TestInstall: make puts the command and its completions where PREFIX says, and takes them away again.
func TestInstall(t *testing.T) {
	t.Parallel()
	to, prefix := t.TempDir(), "/opt/a b"
	by := func(target string) {
		t.Helper()
		// What is there is installed: other tests boot it.
		cmd := exec.Command("make", "-s", "-o", "command", target, "DESTDIR="+to, "PREFIX="+prefix)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("make %s: %v\n%s", target, err, out)
		}
	}
	by("install")
	if out, err := exec.Command(to+prefix+"/bin/elver", "version").Output(); err != nil || !strings.HasSuffix(string(out), ", with its kernel\n") {
		t.Errorf("elver version: %q, %v", out, err)
	}
	for words, want := range map[string]string{
		"elver in": "inspect", "elver run --mem": "--memory", "elver run --machine mi": "microvm", "elver build --out": "--output", "elver help net": "network", "elver completion z": "zsh",
	} {
		script := `. "$0"; read -ra COMP_WORDS <<<"$1"; COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _elver; echo "${COMPREPLY[*]}"`
		out, err := exec.Command("bash", "-c", script, to+prefix+"/share/bash-completion/completions/elver", words).CombinedOutput()
		if err != nil || string(out) != want+"\n" {
			t.Errorf("%s: %q, %v", words, out, err)
		}
	}
	by("uninstall")
	filepath.WalkDir(to, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			t.Errorf("%s is left behind (%v)", path, err)
		}
		return nil
	})
}

// inspection is what elver inspect --json says.
type inspection struct {
	Path               string
	Libraries          []struct{ Name, Path string }
	Missing            []string
	SystemCalls        []string
	SystemCallsMissing []string
	ShouldRun          bool
}

func inspect(t *testing.T, words ...string) (i inspection, status int) {
	t.Helper()
	r := execute(patience, "", append([]string{elverCommand(t), "inspect", "--json"}, words...))
	if err := json.Unmarshal([]byte(r.stdout), &i); err != nil {
		t.Fatalf("%v: %v", err, r)
	}
	return i, r.status
}

// TestElverInspect: what a program does is among what inspect says it can.
func TestElverInspect(t *testing.T) {
	t.Parallel()
	traced := regexp.MustCompile(`(?m)^(?:\[[^]]*\] *|[0-9]+ +)?([a-z_0-9]+)\(`)
	for _, words := range [][]string{
		{"/bin/ls", "-la", "/"}, {"/bin/bash", "-c", "(ls); echo $(cat /etc/passwd)"}, {busybox(t), "ls"}, {build(t, goProgram, "gobasics")},
		{build(t, musl, "pipes")}, {build(t, staticPIE, "threads")},
	} {
		t.Run(filepath.Base(words[0]), func(t *testing.T) {
			if _, err := os.Stat(words[0]); err != nil {
				t.Fatal(err)
			}
			i, status := inspect(t, words[0])
			if !i.ShouldRun || status != 0 || len(i.Missing) != 0 || len(i.SystemCalls) < 20 || len(i.SystemCalls) > 250 {
				t.Errorf("status %d, %+v", status, i)
			}
			r := elver(t, "", append([]string{"--strace"}, words...)...)
			calls := traced.FindAllStringSubmatch(r.stderr, -1)
			if len(calls) < 10 {
				t.Fatalf("no trace: %v", r)
			}
			for _, call := range calls {
				if name := call[1]; name != "restart_syscall" && !slices.Contains(i.SystemCalls, name) {
					t.Errorf("it made %s, which wasn't foreseen", name)
				}
			}
		})
	}
	t.Run("directory", func(t *testing.T) {
		dir := t.TempDir()
		for _, err := range []error{
			os.MkdirAll(filepath.Join(dir, "usr/bin"), 0o777), os.Symlink("usr/bin", filepath.Join(dir, "bin")), os.Symlink("/bin/tool", filepath.Join(dir, "init")),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		b, err := os.ReadFile("/bin/ls")
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "usr/bin/tool"), b, 0o777)
		}
		if err != nil {
			t.Fatal(err)
		}
		i, status := inspect(t, dir)
		if i.ShouldRun || status != 1 || !slices.Contains(i.Missing, "libc.so.6") || !slices.Contains(i.Missing, "/lib64/ld-linux-x86-64.so.2") {
			t.Errorf("status %d, %+v", status, i)
		}
	})
	t.Run("image", func(t *testing.T) {
		image := dockerSave(t, imageConfig{Entrypoint: []string{"entry.sh"}, Env: []string{"PATH=/opt:/bin"}},
			layer(t, append(busyboxRecords(t), record{name: "opt/entry.sh", content: "#!/bin/sh\n"})...))
		if i, status := inspect(t, image); !i.ShouldRun || status != 0 || i.Path != "/bin/sh" {
			t.Errorf("status %d, %+v", status, i)
		}
	})
	t.Run("foreign", func(t *testing.T) {
		b, err := os.ReadFile(busybox(t))
		if err != nil {
			t.Fatal(err)
		}
		b[18] = 183 // EM_AARCH64
		r := execute(patience, "", []string{elverCommand(t), "inspect", write(t, "foreign", b)})
		if r.status != 1 || !strings.Contains(r.stderr, "AARCH64") {
			t.Errorf("%v", r)
		}
	})
}
