package boot

import (
	"bytes"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestSplitWords(t *testing.T) {
	for _, test := range []struct {
		line string
		want []string
	}{
		{``, nil},
		{"  \t \n ", nil},
		{`a  b	c`, []string{"a", "b", "c"}},
		{`'a b' "c d"`, []string{"a b", "c d"}},
		{`a'b'"c"d`, []string{"abcd"}},
		{`'' ""`, []string{"", ""}},
		{`'a\b"c'`, []string{`a\b"c`}},
		{`"a\"b\\c\d$e"`, []string{`a"b\c\d$e`}},
		{`"it's"`, []string{"it's"}},
		{`a\ b \"c \\ \'`, []string{"a b", `"c`, `\`, "'"}},
		{"a\\\nb", []string{"ab"}},
		{`a\`, []string{`a\`}},
		{`$HOME *.go ~ #x`, []string{"$HOME", "*.go", "~", "#x"}},
		{"\xff\x00é", []string{"\xff\x00é"}},
	} {
		words, err := splitWords(test.line)
		if err != nil {
			t.Errorf("%q: %v", test.line, err)
		}
		var got []string
		for _, w := range words {
			got = append(got, w.text)
		}
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%q splits into %q, want %q", test.line, got, test.want)
		}
	}
	for _, line := range []string{`'`, `a 'b`, `"`, `"a\"`, `'a"`, `"\`} {
		if words, err := splitWords(line); err == nil {
			t.Errorf("%q splits into %v, want an error", line, words)
		}
	}
}

func TestArgv(t *testing.T) {
	for _, test := range []struct {
		program, line string
		want          []string
	}{
		// An ELF initrd: both rules of argv[0].
		{"hello", ``, []string{"hello"}},
		{"hello", `a b`, []string{"hello", "a", "b"}},
		{"hello", `hello a b`, []string{"hello", "a", "b"}},
		{"hello", `/usr/bin/hello a`, []string{"/usr/bin/hello", "a"}},
		{"hello", `hello2 a`, []string{"hello", "hello2", "a"}},
		{"hello", `-- a "b c" ''`, []string{"hello", "a", "b c", ""}},
		{"hello", `-- hello a`, []string{"hello", "a"}},
		{"hello", `''`, []string{"hello", ""}},
		{"ld-linux-x86-64.so.2", `/ld-linux-x86-64.so.2 --library-path / /helloworld`,
			[]string{"/ld-linux-x86-64.so.2", "--library-path", "/", "/helloworld"}},
		// No program in the initrd.
		{"", ``, nil},
		{"", `--`, nil},
		{"", `/bin/sh -c 'echo $0'`, []string{"/bin/sh", "-c", "echo $0"}},

		// Parameters, and what only looks like them.
		{"", `elver.strace=1 sh`, []string{"sh"}},
		{"", `elver.strace sh`, []string{"sh"}},
		{"", `sh elver.strace=1`, []string{"sh", "elver.strace=1"}},
		{"", `-- elver.nonsense=1`, []string{"elver.nonsense=1"}},
		{"", `env.sh a`, []string{"env.sh", "a"}},
		{"", `vfs.fstab`, []string{"vfs.fstab"}},
		{"", `'vfs.fstab=[' a ] sh`, []string{"a", "]", "sh"}}, // the bracket is quoted: not a list
		{"", `console=ttyS0 quiet ro root=/dev/vda sh -x`, []string{"sh", "-x"}},
		{"", `sh quiet`, []string{"sh", "quiet"}},
		{"", `reboot=k panic=1 nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux i8042.dumbkbd swiotlb=noforce`, nil},

		// "--" with what may stand before it.
		{"", `java-hello_qemu-x86_64 vfs.fstab=[ "initrd0:/:extract::ramfs=1:" ] -- /usr/bin/java hello`, []string{"/usr/bin/java", "hello"}},
		{"", `Unikraft  env.vars=[ A=b ] netdev.ip=172.17.0.2/24:172.17.0.1:8.8.8.8    -- -c /nginx.conf`, []string{"-c", "/nginx.conf"}},
		{"", `random.seed=[ 0x1 0x2 ] uk.x=1 -- /ld-kv /fixture.in`, []string{"/ld-kv", "/fixture.in"}},
		{"", `sh -c 'echo $1' -- x`, []string{"sh", "-c", "echo $1", "--", "x"}},
		{"", `/bin/grep -- x`, []string{"/bin/grep", "--", "x"}},
		{"grep", `grep -- x`, []string{"grep", "--", "x"}},
		{"grep", `quiet -v -- x`, []string{"grep", "-v", "--", "x"}},
		{"", `-- sh -- x`, []string{"sh", "--", "x"}},

		// What hypervisors append.
		{"hello", `a virtio_mmio.device=512@0xfeb02e00:12 virtio_mmio.device=4K@0xd0000000:5:0`, []string{"hello", "a"}},
		{"", `quiet -- sh virtio_mmio.device=512@0xfeb02e00:12`, []string{"sh"}},
		{"", `sh 'virtio_mmio.device=512@0xfeb02e00:12'`, []string{"sh", "virtio_mmio.device=512@0xfeb02e00:12"}},
		{"", `sh virtio_mmio.device=hello`, []string{"sh", "virtio_mmio.device=hello"}},
	} {
		p, err := ParseCommandLine(test.line, test.program)
		if err != nil {
			t.Errorf("%q with %q: %v", test.line, test.program, err)
			continue
		}
		if !reflect.DeepEqual(p.Argv, test.want) {
			t.Errorf("%q with %q: argv is %q, want %q", test.line, test.program, p.Argv, test.want)
		}
	}
}

func TestParams(t *testing.T) {
	defaults := Params{Dir: "/", Log: "warning", Console: ConsoleTTY}
	for _, test := range []struct {
		line string
		want func(*Params)
	}{
		{``, func(p *Params) {}},
		{`vfs.fstab=[ "initrd0:/:extract::ramfs=1:" "fs1:/mnt:9pfs" ] --`, func(p *Params) {
			p.Fstab = []string{"initrd0:/:extract::ramfs=1:", "fs1:/mnt:9pfs"}
		}},
		{`vfs.fstab=["initrd0:/:extract::ramfs=1:"] --`, func(p *Params) { p.Fstab = []string{"initrd0:/:extract::ramfs=1:"} }},
		{`vfs.fstab=fs0:/:9pfs vfs.fstab=[fs1:/a:9pfs fs2:/b:9pfs]`, func(p *Params) {
			p.Fstab = []string{"fs0:/:9pfs", "fs1:/a:9pfs", "fs2:/b:9pfs"}
		}},
		{`vfs.fstab=[ ]`, func(p *Params) {}},
		{`vfs.rootfs=9pfs vfs.rootdev=fs0 vfs.rootopts=x vfs.rootflags=0x1`, func(p *Params) {
			p.RootFS, p.RootDevice, p.RootOptions, p.RootFlags = "9pfs", "fs0", "x", "0x1"
		}},
		{`env.vars=[ "A=b c" PWD=/tmp D="e]" ] env.vars=F=`, func(p *Params) {
			p.Env, p.Dir = []string{"A=b c", "PWD=/tmp", "D=e]", "F="}, "/tmp"
		}},
		{`netdev.ip=192.168.0.123/24:192.168.0.1:192.168.0.1::example:unikraft.org netdev.ip=10.0.0.2/8`, func(p *Params) {
			p.NetdevIP = []NetdevIP{
				{IPv4{192, 168, 0, 123}, 24, IPv4{192, 168, 0, 1}, []IPv4{{192, 168, 0, 1}}, "example", "unikraft.org"},
				{Address: IPv4{10, 0, 0, 2}, PrefixBits: 8},
			}
		}},
		{`netdev.ip=172.44.0.2/24:172.44.0.1:::`, func(p *Params) {
			p.NetdevIP = []NetdevIP{{Address: IPv4{172, 44, 0, 2}, PrefixBits: 24, Gateway: IPv4{172, 44, 0, 1}}}
		}},
		{`netdev.ip=::8.8.8.8`, func(p *Params) { p.NetdevIP = []NetdevIP{{DNS: []IPv4{{8, 8, 8, 8}}}} }},
		{`netdev.ipv4_addr=172.44.0.2 netdev.ipv4_gw_addr=172.44.0.1 netdev.ipv4_subnet_mask=255.255.255.0 --`, func(p *Params) {
			p.NetdevIP = []NetdevIP{{Address: IPv4{172, 44, 0, 2}, PrefixBits: 24, Gateway: IPv4{172, 44, 0, 1}}}
		}},
		{`virtio_mmio.device=4K@0xd0000000:5:0 virtio_mmio.device=0x200@0xfeb00e00:12`, func(p *Params) {
			p.VirtioMMIO = []VirtioMMIODevice{{0xd0000000, 4096, 5}, {0xfeb00e00, 512, 12}}
		}},
		{`elver.strace elver.summary=on elver.log=debug elver.console=pipe elver.init=1 elver.profile=p elver.core=c`, func(p *Params) {
			p.Strace, p.Summary, p.Log, p.Console = true, true, "debug", ConsolePipe
			p.OwnInit, p.Profile, p.Core = true, "p", "c"
		}},
		{`elver.window=24x132`, func(p *Params) { p.Rows, p.Columns = 24, 132 }},
		{`elver.stopsignal=SIGQUIT`, func(p *Params) { p.StopSignal = 3 }},
		{`elver.stopsignal=term`, func(p *Params) { p.StopSignal = 15 }},
		{`elver.stopsignal=64`, func(p *Params) { p.StopSignal = 64 }},
		{`elver.stopsignal=SIGRTMIN+3`, func(p *Params) { p.StopSignal = 37 }},
		{`elver.stopsignal=RTMAX`, func(p *Params) { p.StopSignal = 64 }},
		{`elver.user=7 elver.hostname=h`, func(p *Params) { p.User, p.Hostname = &User{UID: 7}, "h" }},
		{`elver.user=4294967294:8:9,10`, func(p *Params) { p.User = &User{1<<32 - 2, 8, []uint32{9, 10}} }},
		{`elver.entrypoint=2`, func(p *Params) { p.Entrypoint = 2 }},
		{`elver.stderr=log`, func(p *Params) { p.StderrToLog = true }},
		{`elver.strace=1 elver.strace=off elver.summary=0x10`, func(p *Params) { p.Summary = true }},
		{`kernel quiet foo.bar=[ 1 2 ] console=ttyS0 --`, func(p *Params) {
			p.Ignored = []string{"kernel", "quiet", "foo.bar=[", "console=ttyS0"}
		}},
	} {
		want := defaults
		test.want(&want)
		p, err := ParseCommandLine(test.line, "")
		if err != nil {
			t.Errorf("%s: %v", test.line, err)
			continue
		}
		p.oldNetdev = oldNetdev{}
		if !reflect.DeepEqual(*p, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", test.line, *p, want)
		}
	}
}

func TestCommandLineErrors(t *testing.T) {
	for line, want := range map[string]string{
		`elver.strce=1`:              "unknown parameter elver.strce: the family elver has console, core, entrypoint, hostname, init, log, profile, stderr, stopsignal, strace, summary, timestamps, user, window",
		`quiet vfs.=1`:               "unknown parameter vfs.",
		`vfs.nonsense=1 -- x`:        "unknown parameter vfs.nonsense",
		`elver.summary=perhaps`:      "neither true",
		`elver.init=sh`:              "neither an absolute path",
		`elver.stderr=2`:             "not one of console, log",
		`elver.entrypoint=-1`:        "not a number of words",
		`elver.user=`:                "in numbers",
		`elver.user=root`:            "in numbers",
		`elver.user=1:`:              "in numbers",
		`elver.user=1:2:`:            "in numbers",
		`elver.user=1:2:3:4`:         "in numbers",
		`elver.user=4294967295`:      "in numbers",
		`elver.window=24`:            "not ROWSxCOLUMNS",
		`elver.window=0x80`:          "not ROWSxCOLUMNS",
		`elver.window=24x80x1`:       "not ROWSxCOLUMNS",
		`elver.window=24x65536`:      "not ROWSxCOLUMNS",
		`elver.stopsignal=SIGFOO`:    "no signal",
		`elver.stopsignal=`:          "no signal",
		`elver.stopsignal=0`:         "no signal",
		`elver.stopsignal=65`:        "no signal",
		`elver.stopsignal=RTMIN-1`:   "no signal",
		`elver.stopsignal=RTMAX+1`:   "no signal",
		`elver.stopsignal=RTMIN+x`:   "no signal",
		`elver.hostname=`:            "not a host name",
		`elver.hostname='a b'`:       "not a host name",
		`elver.strace=[ 1 ]`:         "takes one value",
		`elver.log=loud`:             "not one of debug, info, warning, error",
		`elver.console=`:             "not one of tty, pipe",
		`vfs.fstab=[ a b`:            "parameter vfs.fstab begins a list that no ] ends",
		`foo.bar=[ a -- b`:           "parameter foo.bar begins a list that no ] ends",
		`vfs.fstab -- x`:             "needs a value",
		`env.vars=A`:                 `"A" is not NAME=value`,
		`env.vars==b`:                "is not NAME=value",
		`env.vars=PWD=tmp`:           "not an absolute path",
		`netdev.ip=1.2.3.4`:          "network prefix",
		`netdev.ip=1.2.3/8`:          "not an IPv4 address",
		`netdev.ip=1.2.3.4.5/8`:      "not an IPv4 address",
		`netdev.ip=1.2.3.256/8`:      "not an IPv4 address",
		`netdev.ip=1.2.3.4/33`:       "network prefix",
		`netdev.ip=1.2.3.4/8:x`:      "not an IPv4 address",
		`netdev.ip=::::::`:           "more fields",
		`netdev.ipv4_addr=1.2.3.4`:   "need each other",
		`virtio_mmio.device=4K@x:5`:  "size@base:irq",
		`virtio_mmio.device=4K:5`:    "size@base:irq",
		`virtio_mmio.device=0@1:5`:   "size@base:irq",
		`virtio_mmio.device=K@1:5 x`: "size@base:irq",
		`netdev.ipv4_addr=1.2.3.4 netdev.ipv4_subnet_mask=255.0.255.0`: "ones and then zeros",
		`a 'b`: "without its partner",
	} {
		_, err := ParseCommandLine(line, "")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v, want %q in it", line, err, want)
		}
	}
}

func TestBundledLine(t *testing.T) {
	const own = `elver.entrypoint=2 env.vars=[ 'A=1' 'B=2' ] elver.log=info -- '/entry' '-x' 'serve' 'it'`
	for line, want := range map[string]string{
		"":                           "/entry|-x|serve|it",
		"migrate --now":              "/entry|-x|migrate|--now",
		"elver.log=debug":            "/entry|-x|serve|it",
		"env.vars=A=3 -- 'a b'":      "/entry|-x|a b",
		"-a -- b":                    "/entry|-x|-a|--|b",
		"virtio_mmio.device=4K@16:5": "/entry|-x|serve|it",
	} {
		p, err := ParseBundledLine(own, line, "")
		if err != nil || strings.Join(p.Argv, "|") != want {
			t.Errorf("%q: %v, %v, want %s", line, p, err, want)
			continue
		}
		log, first := "info", "A=1"
		if strings.Contains(line, "debug") {
			log = "debug"
		}
		if strings.Contains(line, "A=3") {
			first = "A=3"
		}
		if p.Log != log || !slices.Contains(p.Environment(), first) || !slices.Contains(p.Environment(), "B=2") {
			t.Errorf("%q: %+v", line, p)
		}
	}
	if _, err := ParseBundledLine("elver.nonsense=1", "", ""); err == nil || !strings.Contains(err.Error(), "own command line") {
		t.Errorf("%v", err)
	}
}

func TestBundle(t *testing.T) {
	m := &memory{base: 0x100000, b: make([]byte, 0x3000)}
	b := Bundle{Line: 0x101000, LineBytes: 5, Module: Module{Start: 0x102000, End: 0x102100}}
	i := &Info{}
	if err := i.AddBundle(0x100000, m.view); err != nil || i.BundledLine != "" || len(i.Modules) != 0 {
		t.Errorf("%+v, %v", i, err)
	}
	copy(m.b[BundleOffset:], b.Encode())
	copy(m.b[0x1000:], "-- ls")
	if err := i.AddBundle(0x100000, m.view); err != nil || i.BundledLine != "-- ls" || len(i.Modules) != 1 || i.Modules[0] != b.Module {
		t.Errorf("%+v, %v", i, err)
	}
	i = &Info{Modules: []Module{{Start: 1, End: 2}}, InitrdName: "x"}
	if err := i.AddBundle(0x100000, m.view); err != nil || i.InitrdName != "x" || i.Modules[0].Start != 1 {
		t.Errorf("the loader's module: %+v, %v", i, err)
	}
	for _, bad := range []Bundle{{Line: 0, LineBytes: 5}, {Line: 0x101000, LineBytes: 1 << 40}, {Line: 0x101000, Module: Module{Start: 2, End: 1}}} {
		copy(m.b[BundleOffset:], bad.Encode())
		if err := i.AddBundle(0x100000, m.view); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
	if err := i.AddBundle(0, m.view); err == nil {
		t.Error("an image outside of memory was taken")
	}
}

func TestEnvironment(t *testing.T) {
	p := Params{Env: []string{"A=1", "HOME=/home", "A=2"}}
	want := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/home", "TERM=linux", "A=2"}
	if got := p.Environment(); !reflect.DeepEqual(got, want) {
		t.Errorf("environment is %q, want %q", got, want)
	}
}

func FuzzParseCommandLine(f *testing.F) {
	f.Add(`java vfs.fstab=[ "initrd0:/:extract::ramfs=1:" ] env.vars=["A=b c"] -- /usr/bin/java hello`, "")
	f.Add(`elver.strace netdev.ip=1.2.3.4/8:::x virtio_mmio.device=4K@0xd0000000:5:0 a\ b`, "hello")
	f.Fuzz(func(t *testing.T, line, program string) {
		p, err := ParseCommandLine(line, program)
		if err != nil {
			if p != nil || strings.TrimSpace(err.Error()) == "" {
				t.Errorf("%v with error %v", p, err)
			}
			return
		}
		if program != "" && (len(p.Argv) == 0 || baseName(p.Argv[0]) != baseName(program)) {
			t.Errorf("argv %q does not begin with %q", p.Argv, program)
		}
		for _, n := range p.NetdevIP {
			if n.PrefixBits < 0 || n.PrefixBits > 32 {
				t.Errorf("prefix length %d", n.PrefixBits)
			}
		}
		// Quoting words and taking them apart gives them back.
		words, err := splitWords(line)
		if err != nil {
			t.Fatal("the line was parsed but cannot be split")
		}
		var quoted strings.Builder
		for _, w := range words {
			quoted.WriteString(" '" + strings.ReplaceAll(w.text, "'", `'\''`) + "'")
		}
		again, err := splitWords(quoted.String())
		if err != nil || len(again) != len(words) {
			t.Fatalf("%d words became %d: %v", len(words), len(again), err)
		}
		for i := range words {
			if again[i].text != words[i].text {
				t.Errorf("word %q became %q", words[i].text, again[i].text)
			}
		}
	})
}

// TestParametersAreDocumented: docs/parameters.md has every parameter.
func TestParametersAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/parameters.md")
	if err != nil {
		t.Fatal(err)
	}
	for family, keys := range families {
		for key := range keys {
			if !bytes.Contains(page, []byte("`"+family+"."+key+"`")) {
				t.Errorf("docs/parameters.md doesn't have %s.%s", family, key)
			}
		}
	}
}
