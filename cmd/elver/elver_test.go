package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"elver/cmd/elver/machine"
)

func TestParse(t *testing.T) {
	var o *runOptions
	for _, test := range []struct {
		words, rest string
		ok          func() bool
	}{
		{"ls -la", "ls -la", func() bool { return true }},
		{"-m 64 ls -m 3", "ls -m 3", func() bool { return o.memoryMB == 64 }},
		{"-m64 --memory=2G x", "x", func() bool { return o.memoryMB == 2048 }},
		{"-m=512K -m 131072K x", "", nil},
		{"-eA=1 -e B=2=3 --env=C= x", "x", func() bool { return slices.Equal(o.env, []string{"A=1", "B=2=3", "C="}) }},
		{"--gdb x", "x", func() bool { return o.gdbPort == 1234 }},
		{"--gdb=99 x", "x", func() bool { return o.gdbPort == 99 }},
		{"--read-only --strace -- -x -- y", "-x -- y", func() bool { return o.readOnly && o.strace == "1" }},
		{"-p 8080:80 -p 127.0.0.1:5:6/udp -p 7 x", "x", func() bool {
			return slices.Equal(o.forwards, []machine.Forward{{Protocol: "tcp", Host: 8080, Guest: 80}, {Protocol: "udp", HostAddress: "127.0.0.1", Host: 5, Guest: 6}, {Protocol: "tcp", Host: 7, Guest: 7}})
		}},
		{"-p 8000-8002:80-82/udp -p 5-6 x", "x", func() bool {
			return slices.Equal(o.forwards, []machine.Forward{{Protocol: "udp", Host: 8000, Guest: 80}, {Protocol: "udp", Host: 8001, Guest: 81}, {Protocol: "udp", Host: 8002, Guest: 82},
				{Protocol: "tcp", Host: 5, Guest: 5}, {Protocol: "tcp", Host: 6, Guest: 6}})
		}},
		{"-v /:/a/b/ -v .:/c:ro x", "x", func() bool {
			return slices.Equal(o.volumes, []machine.Volume{{Host: "/", Guest: "/a/b"}, {Host: ".", Guest: "/c", ReadOnly: true}})
		}},
		{"--ip 10.0.2.20 x", "x", func() bool { return o.ip == netip.MustParsePrefix("10.0.2.20/24") }},
		{"--strace=file,!open x", "x", func() bool { return o.strace == "file,!open" }},
		{"- x", "- x", func() bool { return true }},
	} {
		o = &runOptions{}
		rest, err := parse(o.table(), strings.Fields(test.words))
		if test.ok == nil {
			if err == nil {
				t.Errorf("%s: no error", test.words)
			}
			continue
		}
		if err != nil || strings.Join(rest, " ") != test.rest || !test.ok() {
			t.Errorf("%s: %q, %v, %+v", test.words, rest, err, o)
		}
	}
	for _, words := range []string{"--none", "-Z", "-m", "-m 0", "-m x", "-c 0", "-p x", "-p 0:1", "-p 1:2:3:4", "-p 1:2/sctp", "-p 0,guestfwd=x:1:2", "-p ::1:2:3", "-p 1-2:3", "-p 2-1", "-p 1-65535", "-p 65535-65536", "-p 1-", "-p 1-2-3", "-v x", "-v /:x", "-v /:/", "-v /nonesuch:/x",
		"-e =x", "--env-file /nonesuch", "-w x", "--core x", "--profile x", "--net tap", "--ip x", "--ip 10.0.2.2/24", "--ip 10.0.0.9/30", "--accel hvf", "--machine x,y", "--log loud", "--read-only=1", "--gdb=x"} {
		if _, err := parse(new(runOptions).table(), strings.Fields(words)); err == nil {
			t.Errorf("%s: no error", words)
		}
	}
}

// TestOpen: what can't be run is refused in a sentence, with the status that env(1) would have.
func TestOpen(t *testing.T) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	header := func(at int, b byte) []byte {
		changed := slices.Clone(self)
		changed[at] = b
		return changed
	}
	dir := t.TempDir()
	for _, row := range []struct {
		name    string
		content []byte
		mode    os.FileMode
		problem string
		status  int
	}{
		{"cut", self[:100], 0o755, "is a damaged ELF file", 126},
		{"arm", header(18, byte(elf.EM_AARCH64)), 0o755, "is for AARCH64: not a program for Linux on x86-64", 126},
		{"32-bit", header(elf.EI_CLASS, byte(elf.ELFCLASS32)), 0o755, "is a program of 32 bits", 126},
		{"big-endian", header(elf.EI_DATA, byte(elf.ELFDATA2MSB)), 0o755, "is for a big-endian machine", 126},
		{"core", header(16, byte(elf.ET_CORE)), 0o755, "is an ELF file of type CORE, no program", 126},
		{"plain", self, 0o644, "is not executable: chmod +x", 126},
		{"empty", nil, 0o755, "is empty", 126},
		{"text", []byte("hello\n"), 0o755, "is neither a program (ELF or #!) nor a cpio or tar archive nor a directory", 126},
		{"script", []byte("#!sh\n"), 0o755, "names no interpreter by an absolute path", 126},
		{"nonesuch", nil, 0, "there is no ", 127},
	} {
		path := filepath.Join(dir, row.name)
		if row.mode != 0 {
			if err := os.WriteFile(path, row.content, row.mode); err != nil {
				t.Fatal(err)
			}
		}
		s, err := open(path)
		var f failure
		if err == nil {
			s.close()
		}
		if !errors.As(err, &f) || f.status != row.status || !strings.Contains(err.Error(), row.problem) {
			t.Errorf("%s: %v, status %d", row.name, err, f.status)
		}
	}
	if err := checkKernel(filepath.Join(dir, "text")); err == nil || !strings.Contains(err.Error(), "is no kernel of Elver's") {
		t.Errorf("another kernel: %v", err)
	}
	if err := os.Symlink("loop", filepath.Join(dir, "loop")); err != nil {
		t.Fatal(err)
	}
	if _, err := open(filepath.Join(dir, "loop")); err == nil || err.Error() != filepath.Join(dir, "loop")+" cannot be reached: too many levels of symbolic links" {
		t.Errorf("a loop: %v", err)
	}
}

// TestAdvice: a full disk isn't the user's fault, but what to do is said.
func TestAdvice(t *testing.T) {
	t.Setenv("TMPDIR", "/some/where/")
	full := fmt.Errorf("layer 1: %w", &fs.PathError{Op: "write", Path: "/some/where/elver-1", Err: syscall.ENOSPC})
	if a := advice(full); !strings.Contains(a, "TMPDIR") {
		t.Errorf("%q", a)
	}
	for _, err := range []error{errors.New("x"), &fs.PathError{Op: "write", Path: "/else", Err: syscall.ENOSPC}} {
		if a := advice(err); a != "" {
			t.Errorf("%v: %q", err, a)
		}
	}
}

func TestLookUpUser(t *testing.T) {
	dir := t.TempDir()
	os.Mkdir(filepath.Join(dir, "etc"), 0o777)
	for name, content := range map[string]string{
		"passwd": "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/var/www:/bin/sh\nodd:x:1 elver.strace=1:0::/:/\nbroken\n",
		"group":  "web:x:34:\nssl:x:100:other,web\nweb2:x:34:web\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, "etc", name), []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	s, err := open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for user, want := range map[string]string{
		"web": "33:34:34,100 /var/www", "33": "33:34:34,100 /var/www", "web:ssl": "33:100:100 /var/www", "7": "7:0:0 ", "7:8": "7:8:8 ", "root": "0:0:0 /root", "web:9": "33:9:9 /var/www",
	} {
		ids, home, err := s.lookUpUser(user)
		if err != nil || ids+" "+home != want {
			t.Errorf("%s: %s %s, %v", user, ids, home, err)
		}
	}
	for _, user := range []string{"nobody", "odd", "1:none", "", "-1", "1 2"} {
		if ids, _, err := s.lookUpUser(user); err == nil {
			t.Errorf("%q: %s", user, ids)
		}
	}
}

// TestPasswdStaysInside: a root's /etc/passwd that leads out of it isn't followed.
func TestPasswdStaysInside(t *testing.T) {
	dir := t.TempDir()
	os.Mkdir(filepath.Join(dir, "etc"), 0o777)
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "etc/passwd")); err != nil {
		t.Fatal(err)
	}
	s, err := open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if b, err := s.readFile("etc/passwd"); err == nil {
		t.Errorf("%q", b)
	}
}

// TestCompletion: the scripts name every command and option.
func TestCompletion(t *testing.T) {
	var bash, fish bytes.Buffer
	completeBash(&bash)
	completeFish(&fish)
	for _, c := range commands {
		if !strings.Contains(bash.String(), c.name) || !strings.Contains(fish.String(), "-a "+c.name) {
			t.Errorf("%s isn't completed", c.name)
		}
		if c.options == nil {
			continue
		}
		for _, o := range c.options() {
			if !strings.Contains(bash.String(), "--"+o.long) || !strings.Contains(fish.String(), "-l "+o.long) {
				t.Errorf("%s --%s isn't completed", c.name, o.long)
			}
		}
	}
}

// said returns what a command line writes to standard output.
func said(t *testing.T, words ...string) (out string, status int, err error) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	stdout := os.Stdout
	os.Stdout = f
	status, err = execute(words)
	os.Stdout = stdout
	b, readErr := os.ReadFile(f.Name())
	if readErr != nil {
		t.Fatal(readErr)
	}
	return string(b), status, err
}

// TestHelp: every command and topic explains itself, on standard output, and each option is there.
func TestHelp(t *testing.T) {
	usage, status, err := said(t, "help")
	if status != 0 || err != nil {
		t.Errorf("help: %d, %v", status, err)
	}
	for _, c := range commands {
		if !strings.Contains(usage, "\n  "+c.name+" ") {
			t.Errorf("help doesn't list %s", c.name)
		}
		for _, words := range [][]string{{"help", c.name}, {c.name, "--help"}, {c.name, "-h"}} {
			out, status, err := said(t, words...)
			if status != 0 || err != nil || !strings.HasPrefix(out, "Usage: elver "+c.name) {
				t.Errorf("%q: %q, %d, %v", words, out, status, err)
			}
			if c.options == nil {
				continue
			}
			for _, o := range c.options() {
				if !strings.Contains(out, " --"+o.long) {
					t.Errorf("%q has no --%s", words, o.long)
				}
			}
		}
	}
	for _, topic := range topics {
		if out, status, err := said(t, "help", topic.name); !strings.Contains(usage, "\n  "+topic.name+" ") || status != 0 || err != nil || out != topic.text {
			t.Errorf("%s: %q, %d, %v", topic.name, out, status, err)
		}
	}
	for _, words := range [][]string{{"help", "nonesuch"}, {"nonesuch"}, {"version", "-x"}, {"completion", "tcsh"}, {"completion"}} {
		if out, status, err := said(t, words...); status != statusFailed || err == nil || out != "" {
			t.Errorf("%q: %q, %d, %v", words, out, status, err)
		}
	}
}

// TestVersion: one line, which names the version that make passes.
func TestVersion(t *testing.T) {
	before := version
	defer func() { version = before }()
	version = "v1.2-3-gabcdef"
	for _, words := range [][]string{{"version"}, {"--version"}, {"-v"}} {
		if out, status, err := said(t, words...); status != 0 || err != nil || !strings.HasPrefix(out, "elver v1.2-3-gabcdef, with") || strings.Count(out, "\n") != 1 {
			t.Errorf("%q: %q, %d, %v", words, out, status, err)
		}
	}
}

// TestOptionsAreDocumented: docs/command.md has every option.
func TestOptionsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/command.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range commands {
		if c.options == nil {
			continue
		}
		for _, o := range c.options() {
			if !strings.Contains(string(page), "`--"+o.long) && !strings.Contains(string(page), "[--"+o.long) && o.long != "output" {
				t.Errorf("docs/command.md doesn't have --%s of elver %s", o.long, c.name)
			}
		}
	}
}

// TestBuildsForOthers: the command is for whoever has QEMU, on macOS too.
func TestBuildsForOthers(t *testing.T) {
	cmd := exec.Command("go", "build", "-o", os.DevNull, ".")
	cmd.Env = append(os.Environ(), "GOOS=darwin", "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
