package machine

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"elver/boot"
)

func config() *Config {
	return &Config{Kernel: "/k", MemoryMB: 64, CPUs: 1, Type: "pc", Accel: AccelTCG}
}

// TestCommandLine: whatever the program's words are, the kernel finds them as they were, and nothing else.
func TestCommandLine(t *testing.T) {
	argv := []string{"prog", "", "a b", "it's", `"`, `\`, "]", "--", "elver.strace=1", "virtio_mmio.device=4K@0xd0000000:5", "\n", "é$x`y`"}
	env := []string{"A=]", "B=' ] elver.log=debug --", "C=\n", "PWD=/a b"}
	c := config()
	c.Argv = argv
	c.Parameters = []string{List("env.vars", env)}
	c.Volumes = []Volume{{Host: "/x", Guest: "/g ]'\" --", ReadOnly: true}}
	line, err := c.CommandLine("pipe")
	if err != nil {
		t.Fatal(err)
	}
	p, err := boot.ParseCommandLine(line, "prog")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(p.Argv, argv) || !slices.Equal(p.Env, env) || p.Strace || p.Log != "warning" || p.Dir != "/a b" ||
		!slices.Equal(p.Fstab, []string{"vol0:/g ]'\" --:9p:ro"}) || len(p.VirtioMMIO) != 0 || p.Console != boot.ConsolePipe {
		t.Errorf("%s\nbecomes %+v", line, p)
	}
	for _, word := range []string{"\x00", strings.Repeat("x", maxCommandLine)} {
		c.Argv = []string{word}
		if _, err := c.CommandLine(""); err == nil {
			t.Errorf("%.10q was taken", word)
		}
	}
}

func TestArguments(t *testing.T) {
	c := config()
	c.Root = "/a,id=evil,readonly=off"
	c.Volumes = []Volume{{Host: "/b,,c d", Guest: "/x", ReadOnly: true}}
	c.Network, c.IP = true, netip.MustParsePrefix("10.1.2.9/24")
	c.Forwards = []Forward{{"tcp", "127.0.0.1", 8080, 80}, {"udp", "", 53, 53}}
	args, err := c.Arguments(AccelTCG, "line, with commas")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]string{
		{"-fsdev", "local,id=fs0,path=/a,,id=evil,,readonly=off,security_model=none,multidevs=remap"},
		{"-fsdev", "local,id=vol0,path=/b,,,,c d,security_model=none,multidevs=remap,readonly=on"},
		{"-netdev", "user,id=net0,net=10.1.2.0/24,dhcpstart=10.1.2.9,hostfwd=tcp:127.0.0.1:8080-10.1.2.9:80,hostfwd=udp::53-10.1.2.9:53"},
		{"-append", "line, with commas"},
		{"-smp", "1,maxcpus=2"},
	} {
		found := false
		for i := range args[1:] {
			found = found || args[i] == want[0] && args[i+1] == want[1]
		}
		if !found {
			t.Errorf("no %q in %q", want, args)
		}
	}
	for _, path := range []string{"/a,b", "/a b"} {
		c := config()
		c.Initrd = path
		if _, err := c.Arguments(AccelTCG, ""); err == nil {
			t.Errorf("%q was taken", path)
		}
	}
}

func TestShellQuote(t *testing.T) {
	for in, want := range map[string]string{"a/b:c=d,e": "a/b:c=d,e", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "$x": "'$x'"} {
		if got := shellQuote(in); got != want {
			t.Errorf("%q becomes %s", in, got)
		}
	}
}

func TestCacheDir(t *testing.T) {
	base := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", base)
	dir, err := CacheDir()
	if err != nil || dir != filepath.Join(base, "elver") {
		t.Fatalf("%s, %v", dir, err)
	}
	os.Chmod(dir, 0o777)
	if _, err := CacheDir(); err != nil {
		t.Error(err)
	}
	if info, _ := os.Stat(dir); info.Mode().Perm() != 0o700 {
		t.Errorf("others may write: %v", info.Mode())
	}
	os.Remove(dir)
	os.Symlink(t.TempDir(), dir)
	if _, err := CacheDir(); err == nil {
		t.Error("a link was believed")
	}
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("HOME", "")
	if _, err := CacheDir(); err == nil {
		t.Error("a directory without HOME")
	}
}

// TestProbe: neither a KVM that hangs nor one that ends at once without a result is believed.
func TestProbe(t *testing.T) {
	for name, script := range map[string]string{
		"hangs":               "#!/bin/sh\nexec sleep 1000\n",
		"fails":               "#!/bin/sh\nexit 1\n",
		"ends without result": "#!/bin/sh\nexit 0\n",
	} {
		qemu := filepath.Join(t.TempDir(), "qemu")
		if err := os.WriteFile(qemu, []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if probe("kernel", qemu) {
			t.Errorf("%s: KVM works", name)
		}
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("%s: it took %v", name, took)
		}
	}
	// What works writes the status of the program.
	qemu := filepath.Join(t.TempDir(), "qemu")
	script := "#!/bin/sh\nfor a; do case $a in file,id=status,path=*) printf '*' >\"${a#file,id=status,path=}\";; esac; done\n"
	if err := os.WriteFile(qemu, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	if !probe("kernel", qemu) {
		t.Error("a KVM that works isn't believed")
	}
}
