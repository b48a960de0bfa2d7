// Bench prints what things cost on Elver, in guest instructions: QEMU runs with
// -icount shift=0, under which RDTSC counts them, the same on every run and
// whatever the machine is doing.
//
//	make bench
//	make bench BENCH_LINUX=bzImage    beside Linux in the same VM
//	make bench BENCH_LINUX=bzImage BENCH_LINUX_MODULES=/lib/modules/VERSION    and its 9p, if that is in modules
//	go run ./test/bench 'redis|http'  only what the regular expression finds
//
// The counter goes on while the CPU is halted, as it is when the host's 9p server works: the rows of 9p leave that time
// out, as the kernels tell it. Linux mounts with cache=loose, and with messages as large as Elver's.
//
// Each thing is measured in a VM of its own, so that one that fails leaves the
// others alone.
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"elver/test/tinyelf"
)

const kernel = "build/elver.kernel"

// A row of the table. Limit is what the design asks for, 0 if it doesn't say.
type row struct {
	key, what string
	limit     int
}

var rows = []row{
	{"entry", "kernel's entry to the program's first instruction", 3_000_000},
	{"null", "null system call (getppid), loop included", 115},
	{"no-call", "system call that isn't there (no short way)", 0},
	{"clock", "clock_gettime", 60},
	{"write-null", "write 4 KiB to /dev/null", 300},
	{"read-zero", "read 4 KiB from /dev/zero", 0},
	{"open", "open and close a file", 0},
	{"stat", "stat of a file", 0},
	{"file-write", "write 4 KiB to a file in memory", 0},
	{"file-read", "read 4 KiB of it", 0},
	{"file-read-64k", "read 64 KiB of it", 0},
	{"file-fault", "first touch of a page of a mapped file", 0},
	{"touch", "first touch of an anonymous page", 3000},
	{"touch-large", "the same, where large pages are asked for", 0},
	{"map", "mmap and munmap a page", 0},
	{"pipe", "pipe round trip, two threads", 4000},
	{"futex", "futex round trip, two threads", 0},
	{"thread", "thread create and join", 25_000},
	{"signal", "signal to self and return", 0},
	{"eventfd", "eventfd write, epoll_wait, read", 0},
	{"epoll-1000", "epoll_wait, one ready of 1000", 0},
	{"tcp", "TCP round trip over loopback, two threads", 33_000},
	{"tcp-connect", "TCP connection over loopback, one exchange", 143_000},
	{"tcp-mebibyte", "MiB of TCP over loopback", 3_300_000},
	{"udp", "UDP round trip over loopback, two threads", 24_000},
	{"redis-set", "redis SET through the card, one after the other", 0},
	{"redis-get", "redis GET", 0},
	{"redis-set-16", "redis SET, 16 at a time", 0},
	{"redis-get-16", "redis GET, 16 at a time", 0},
	{"http-keep", "HTTP request of 1 KB, nginx, kept alive", 0},
	{"http-close", "HTTP request of 1 KB, nginx, its own connection", 0},
	{"tcp-in", "MiB of TCP through the card, in", 0},
	{"tcp-out", "MiB of TCP through the card, out", 0},
	{"redis-idle", "a second of an idle redis", 0},
	{"nginx-idle", "a second of an idle nginx", 0},
	{"fork", "fork, exit and wait", 0},
	{"fork-files", "the same with 1000 open files", 0},
	{"exec", "vfork, exec of a static program and wait", 0},
	{"pipeline", "shell that runs a pipeline of three", 0},
	{"9p-read", "MiB of a file on 9p, 64 KiB at a time", 0},
	{"9p-read-again", "the same from the page cache", 0},
	{"9p-walk", "readdir and stat over a tree on 9p, per file", 0},
	{"9p-walk-again", "the same again", 0},
}

// network says whether a client on the host measures the row.
func (r row) network() bool {
	return slices.ContainsFunc(networkServers, func(s networkServer) bool { return slices.Contains(s.keys, r.key) })
}

func main() {
	err := error(nil)
	if os.Getenv(inNamespace) != "" && len(os.Args) == 5 {
		err = inside(regexp.MustCompile(os.Args[1]), os.Args[2], os.Args[3], os.Args[4])
	} else {
		err = run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	dir, err := os.MkdirTemp("", "elver-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "bench")
	cc := exec.Command("gcc", "-O2", "-static-pie", "-pthread", "-o", program, "test/programs/bench.c")
	cc.Stderr = os.Stderr
	if err := cc.Run(); err != nil {
		return fmt.Errorf("compiling test/programs/bench.c: %w", err)
	}
	tree, err := archive(dir, program)
	if err != nil {
		return err
	}
	device, err := share(dir)
	if err != nil {
		return err
	}
	wanted := regexp.MustCompile("")
	if len(os.Args) > 1 {
		if wanted, err = regexp.Compile(os.Args[1]); err != nil {
			return err
		}
	}
	var shown []row
	for _, row := range rows {
		if wanted.MatchString(row.key) {
			shown = append(shown, row)
		}
	}
	image := os.Getenv("BENCH_LINUX")
	linux := map[string]int{}
	if image != "" && slices.ContainsFunc(shown, func(r row) bool { return !r.network() }) {
		if linux, err = onLinux(image, tree, device); err != nil {
			return err
		}
	}
	served, servedByLinux, networkErr := measureNetwork(dir, program, image, wanted)
	if networkErr != nil {
		fmt.Fprintln(os.Stderr, "bench: network:", networkErr)
	}
	maps.Copy(linux, servedByLinux)
	fmt.Printf("%-52s %12s %12s %12s\n", "instructions", "Elver", "wanted", "Linux")
	missed := 0
	for _, row := range shown {
		var cost int
		switch {
		case row.key == "entry":
			cost, err = entry(dir)
		case row.network():
			cost, err = served[row.key], nil
			if cost == 0 {
				err = errors.New("not measured")
			}
		case row.key == "pipeline":
			cost, err = onElver(row.key, skipIdle, "-initrd", tree, "-append", "/init pipeline")
		case strings.HasPrefix(row.key, "9p-"):
			cost, err = onElver(row.key, keepIdle, append(device, "-initrd", program, "-append", `vfs.fstab=[ "bench:/share:9pfs" ] -- `+row.key)...)
		default:
			cost, err = onElver(row.key, skipIdle, "-initrd", program, "-append", row.key)
		}
		mark := ""
		if err == nil && row.limit != 0 && cost > row.limit {
			mark = " above"
			missed++
		}
		fmt.Printf("%-52s %12s %12s %12s%s\n", row.what, number(cost), number(row.limit), number(linux[row.key]), mark)
		if err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", row.key, err)
			missed++
		}
	}
	_, field, err := header()
	if err != nil {
		return err
	}
	loaded := field(5) - field(4)
	fmt.Printf("%-52s %12s\n", "image, bytes loaded", number(int(loaded)))
	if missed > 0 {
		fmt.Printf("%d of %d not as wanted\n", missed, len(shown))
	}
	return nil
}

// number groups digits by thousands; 0 is a dash.
func number(n int) string {
	if n == 0 {
		return "-"
	}
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Idle time is skipped, or passes as on the host: a machine that waits for the host would see years pass otherwise, and
// its timers with them.
const (
	skipIdle = "shift=0,sleep=off"
	keepIdle = "shift=0,sleep=on"
)

// cpu has no ERMS and FSRM: with them, kernels copy and clear by REP MOVSB and REP STOSB, of which QEMU counts every byte.
const cpu = "max,-erms,-fsrm"

// boot runs a VM that counts instructions and returns what it wrote to its
// serial line.
func boot(timeout time.Duration, icount string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", append([]string{
		"-accel", "tcg", "-cpu", cpu, "-icount", icount, "-rtc", "base=2026-01-01,clock=vm", "-m", "256", "-nodefaults", "-display", "none",
		"-serial", "stdio", "-no-reboot", "-device", "isa-debug-exit,iobase=0xf4,iosize=4"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return out, fmt.Errorf("no end within %v; output: %q", timeout, out)
	}
	// isa-debug-exit makes the status odd, so it says nothing by itself.
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return out, err
	}
	if stderr.Len() > 0 {
		return out, errors.New(stderr.String())
	}
	return out, nil
}

var line = regexp.MustCompile(`bench (\S+) (\d+)`)

// onElver boots Elver, and returns what the program prints for key.
func onElver(key, icount string, args ...string) (int, error) {
	out, err := boot(2*time.Minute, icount, append([]string{"-kernel", kernel}, args...)...)
	if err != nil {
		return 0, err
	}
	m := line.FindSubmatch(out)
	if m == nil || string(m[1]) != key {
		return 0, fmt.Errorf("the program failed: %q", out)
	}
	return strconv.Atoi(string(m[2]))
}

// header returns the image and what gives its multiboot header's words, by number.
func header() (image []byte, field func(n int) uint32, err error) {
	image, err = os.ReadFile(kernel)
	if err != nil {
		return nil, nil, err
	}
	at := bytes.Index(image[:min(8192, len(image))], []byte{0x02, 0xb0, 0xad, 0x1b})
	if at < 0 {
		return nil, nil, errors.New("the image has no multiboot header")
	}
	return image, func(n int) uint32 { return binary.LittleEndian.Uint32(image[at+4*n:]) }, nil
}

// entry measures from the image's first instruction to the program's first.
// The firmware's share is found with a copy of the image whose entry reads the
// counter and ends: firmware and loader take the same steps for it, and with
// -icount exactly as many.
func entry(dir string) (int, error) {
	image, field, err := header()
	if err != nil {
		return 0, err
	}
	headerAddr, loadAddr, entryAddr := field(3), field(4), field(7)
	at := bytes.Index(image, []byte{0x02, 0xb0, 0xad, 0x1b})
	offset := at - int(headerAddr-loadAddr) + int(entryAddr-loadAddr)
	// In 32-bit mode: rdtsc, eight bytes to port 0xe9, then out 0xf4.
	probe := []byte{
		0x0f, 0x31, // rdtsc
		0xb9, 4, 0, 0, 0, // mov ecx, 4
		0xe6, 0xe9, 0xc1, 0xe8, 8, 0xe2, 0xf9, // 1: out 0xe9, al; shr eax, 8; loop 1b
		0x89, 0xd0, // mov eax, edx
		0xb9, 4, 0, 0, 0,
		0xe6, 0xe9, 0xc1, 0xe8, 8, 0xe2, 0xf9,
		0xe6, 0xf4, // out 0xf4, al
		0xeb, 0xfe,
	}
	if offset < 0 || offset+len(probe) > len(image) {
		return 0, errors.New("the image's entry lies outside of the file")
	}
	copy(image[offset:], probe)
	probing := filepath.Join(dir, "probe.kernel")
	if err := os.WriteFile(probing, image, 0o666); err != nil {
		return 0, err
	}
	// rdtsc; both halves onto the stack; write(1, stack, 8); exit_group(0).
	program := filepath.Join(dir, "first")
	code := []byte{
		0x0f, 0x31, // rdtsc
		0x48, 0xc1, 0xe2, 32, // shl rdx, 32
		0x48, 0x09, 0xd0, // or rax, rdx
		0x50,                               // push rax
		0xb8, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0, // mov eax, write; mov edi, 1
		0x48, 0x89, 0xe6, // mov rsi, rsp
		0xba, 8, 0, 0, 0, 0x0f, 0x05, // mov edx, 8; syscall
		0xb8, 231, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05, // exit_group(0)
	}
	if err := os.WriteFile(program, tinyelf.Program(code), 0o755); err != nil {
		return 0, err
	}
	port := filepath.Join(dir, "port")
	devices := []string{"-chardev", "file,id=port,path=" + port, "-device", "isa-debugcon,iobase=0xe9,chardev=port", "-initrd", program}
	if out, err := boot(time.Minute, skipIdle, append(devices, "-kernel", probing)...); err != nil {
		return 0, fmt.Errorf("probing the firmware: %w (%q)", err, out)
	}
	begin, err := os.ReadFile(port)
	if err != nil || len(begin) != 8 {
		return 0, fmt.Errorf("probing the firmware: %d bytes came, %v", len(begin), err)
	}
	end, err := boot(time.Minute, skipIdle, append(devices, "-kernel", kernel)...)
	if err != nil || len(end) != 8 {
		return 0, fmt.Errorf("the program wrote %q, %v", end, err)
	}
	return int(binary.LittleEndian.Uint64(end) - binary.LittleEndian.Uint64(begin)), nil
}

// archive makes a file with an archive of the program and, if it can be had, busybox.
func archive(dir, program string) (string, error) {
	data, err := os.ReadFile(program)
	if err != nil {
		return "", err
	}
	shell, err := busybox()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: no pipeline is measured:", err)
	}
	drivers, err := linuxDrivers(os.Getenv("BENCH_LINUX_MODULES"))
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "initramfs")
	return path, os.WriteFile(path, initramfs(data, shell, drivers), 0o666)
}

// linuxDrivers returns the modules that Linux mounts a 9p share with, in the order in which they need each other. A
// kernel may have some of them built in.
func linuxDrivers(dir string) (drivers [][]byte, err error) {
	if dir == "" {
		return nil, nil
	}
	for _, name := range []string{
		"drivers/virtio/virtio_ring", "drivers/virtio/virtio", "drivers/virtio/virtio_pci_modern_dev", "drivers/virtio/virtio_pci_legacy_dev",
		"drivers/virtio/virtio_pci", "fs/netfs/netfs", "fs/fscache/fscache", "net/9p/9pnet", "net/9p/9pnet_virtio", "fs/9p/9p",
	} {
		module, err := os.ReadFile(filepath.Join(dir, "kernel", name+".ko"))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		drivers = append(drivers, module)
	}
	return drivers, nil
}

// share makes a folder with a large file and a tree of small ones, and returns the arguments of QEMU for it.
func share(dir string) ([]string, error) {
	const folders, files, dataBytes = 20, 50, 32 << 20
	root := filepath.Join(dir, "share")
	for d := range folders {
		folder := filepath.Join(root, "tree", strconv.Itoa(d))
		if err := os.MkdirAll(folder, 0o777); err != nil {
			return nil, err
		}
		for f := range files {
			if err := os.WriteFile(filepath.Join(folder, strconv.Itoa(f)), []byte("text\n"), 0o666); err != nil {
				return nil, err
			}
		}
	}
	if err := os.WriteFile(filepath.Join(root, "data"), bytes.Repeat([]byte("0123456789abcde\n"), dataBytes/16), 0o666); err != nil {
		return nil, err
	}
	return []string{"-fsdev", "local,id=bench,security_model=none,path=" + root, "-device", "virtio-9p-pci,fsdev=bench,mount_tag=bench"}, nil
}

// busybox returns Debian's static busybox, which is fetched and unpacked where the tests keep it.
func busybox() ([]byte, error) {
	const cache = "test/.cache"
	path := filepath.Join(cache, "busybox/bin/busybox")
	if data, err := os.ReadFile(path); err == nil {
		return data, nil
	}
	if err := os.MkdirAll(cache, 0o777); err != nil {
		return nil, err
	}
	cmd := exec.Command("sh", "-c", "apt-get download busybox-static && dpkg -x busybox-static_*.deb busybox && rm -f busybox-static_*.deb")
	cmd.Dir = cache
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("fetching Debian's busybox-static: %w\n%s", err, out)
	}
	return os.ReadFile(path)
}

// onLinux boots a Linux image with an archive in which the program is init.
func onLinux(image, initrd string, device []string) (map[string]int, error) {
	out, err := boot(20*time.Minute, keepIdle, append(device, "-kernel", image, "-initrd", initrd,
		"-append", "console=ttyS0 quiet mitigations=off panic=-1 tsc=reliable")...)
	if err != nil {
		return nil, fmt.Errorf("booting %s: %w", image, err)
	}
	costs := map[string]int{}
	for _, m := range line.FindAllSubmatch(out, -1) {
		costs[string(m[1])], _ = strconv.Atoi(string(m[2]))
	}
	if len(costs) == 0 {
		return nil, fmt.Errorf("%s printed no figures: %q", image, out)
	}
	return costs, nil
}

// initramfs is a newc archive with /dev/console, /init, /busybox unless it is empty, and drivers as /modules/a and so on.
func initramfs(init, busybox []byte, drivers [][]byte) []byte {
	var a cpio
	a.begin()
	a.add(0o100755, 0, 0, "init", init)
	if len(busybox) > 0 {
		a.add(0o100755, 0, 0, "busybox", busybox)
	}
	a.add(0o40755, 0, 0, "modules", nil)
	for i, driver := range drivers {
		a.add(0o100644, 0, 0, "modules/"+string(rune('a'+i)), driver)
	}
	return a.end()
}

// cpio is a newc archive in the making.
type cpio struct {
	bytes.Buffer
	files int
}

// begin adds what every Linux wants of an archive.
func (a *cpio) begin() {
	a.add(0o40755, 0, 0, "dev", nil)
	a.add(0o20600, 5, 1, "dev/console", nil)
}

func (a *cpio) add(mode, major, minor int, name string, data []byte) {
	a.files++
	fmt.Fprintf(a, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		a.files, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name)+1, 0)
	for _, part := range [][]byte{append([]byte(name), 0), data} {
		a.Write(part)
		for a.Len()%4 != 0 {
			a.WriteByte(0)
		}
	}
}

// end ends the archive and returns it.
func (a *cpio) end() []byte {
	a.add(0, 0, 0, "TRAILER!!!", nil)
	return a.Bytes()
}
