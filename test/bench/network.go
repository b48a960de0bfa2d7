package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"elver/test/debian"
)

// The network rows are about servers in the VM whose client is this program, on the host, behind a tap in a network
// namespace of its own. Waiting must not count, so RDTSC is no help: QEMU is asked how many instructions the guest
// has executed, which it knows while it records (-icount rr=record, "query-replay" of its monitor).

// A networkServer is one VM with a server, and the keys of what is measured of it.
type networkServer struct {
	name string
	keys []string
}

var networkServers = []networkServer{
	{"redis", []string{"redis-set", "redis-get", "redis-set-16", "redis-get-16", "redis-idle"}},
	{"nginx", []string{"http-keep", "http-close", "nginx-idle"}},
	{"bench", []string{"tcp-in", "tcp-out"}},
}

const (
	inNamespace = "ELVER_BENCH_NAMESPACE"
	hostAddress = "10.99.0.1"
	guestServer = "10.99.0.2"
	// What runs in the guest, given the server's name. As a file of the archive it is "serve".
	serveScript = `#!/busybox sh
case $1 in
redis) exec redis-server --bind 0.0.0.0 --protected-mode no --save "" ;;
nginx) exec nginx -c /etc/bench.conf ;;
bench) exec /bench serve ;;
esac
`
	// The init of Linux: drivers, address, server.
	linuxInit = `#!/busybox sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
/busybox mount -t proc proc /proc; /busybox mount -t sysfs sysfs /sys; /busybox mount -t devtmpfs dev /dev
for m in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci failover net_failover virtio_net; do
	[ ! -e /modules/$m.ko ] || /busybox insmod /modules/$m.ko
done
/busybox ifconfig lo 127.0.0.1; /busybox ifconfig eth0 ` + guestServer + ` netmask 255.255.255.0 || /busybox poweroff -f
exec /serve $1
`
	nginxConf = `user root; daemon off; worker_processes 1; error_log /dev/null; pid /run/nginx.pid; events { }
http { access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; client_body_temp_path /tmp/b; proxy_temp_path /tmp/p;
fastcgi_temp_path /tmp/f; uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s; server { listen 80; root /www; } }
`
)

// measureNetwork returns the figures of the network rows that are wanted: of Elver, and of the Linux image, unless
// it is "".
func measureNetwork(dir, program, image string, wanted *regexp.Regexp) (elver, linux map[string]int, err error) {
	if !slices.ContainsFunc(networkServers, func(s networkServer) bool { return slices.ContainsFunc(s.keys, wanted.MatchString) }) {
		return nil, nil, nil
	}
	const cache = "test/.cache"
	if err := debian.Fetch(cache, "debian-bench", "redis-server nginx-light", nil); err != nil {
		return nil, nil, err
	}
	shell, err := busybox()
	if err != nil {
		return nil, nil, err
	}
	data, err := os.ReadFile(program)
	if err != nil {
		return nil, nil, err
	}
	var a cpio
	a.begin()
	if err := a.addTree(filepath.Join(cache, "debian-bench/root")); err != nil {
		return nil, nil, err
	}
	for _, name := range []string{"www", "proc", "sys", "run", "tmp", "var/log/nginx", "var/lib/nginx"} {
		a.add(0o40755, 0, 0, name, nil)
	}
	a.add(0o100755, 0, 0, "busybox", shell)
	a.add(0o100755, 0, 0, "bench", data)
	a.add(0o100755, 0, 0, "serve", []byte(serveScript))
	a.add(0o100755, 0, 0, "init", []byte(linuxInit))
	a.add(0o100644, 0, 0, "etc/bench.conf", []byte(nginxConf))
	a.add(0o100644, 0, 0, "www/1k", bytes.Repeat([]byte("16 bytes a line\n"), 64))
	tree := filepath.Join(dir, "servers")
	if image != "" {
		if err := a.addModules(image); err != nil {
			return nil, nil, err
		}
	}
	if err := os.WriteFile(tree, a.end(), 0o666); err != nil {
		return nil, nil, err
	}
	elver, err = serveAll(wanted, kernel, tree, "netdev.ip="+guestServer+"/24:"+hostAddress+" -- /busybox sh /serve ")
	if err == nil && image != "" {
		linux, err = serveAll(wanted, image, tree, "console=ttyS0 quiet mitigations=off panic=-1 tsc=reliable -- ")
	}
	return elver, linux, err
}

// serveAll measures an image in a process of its own in a namespace with a tap. What that prints are the figures.
func serveAll(wanted *regexp.Regexp, image, tree, args string) (map[string]int, error) {
	cmd := exec.Command("/proc/self/exe", wanted.String(), image, tree, args)
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if uid := os.Getuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	costs := map[string]int{}
	for _, m := range line.FindAllSubmatch(out, -1) {
		costs[string(m[1])], _ = strconv.Atoi(string(m[2]))
	}
	return costs, err
}

// inside is the process in the namespace.
func inside(wanted *regexp.Regexp, image, tree, args string) error {
	for _, line := range []string{"link set lo up", "tuntap add dev tap0 mode tap vnet_hdr", "addr add " + hostAddress + "/24 dev tap0", "link set tap0 up"} {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			return fmt.Errorf("the network rows need a tap: ip %s: %w: %s", line, err, out)
		}
	}
	failed := false
	for _, s := range networkServers {
		keys := slices.DeleteFunc(s.keys, func(key string) bool { return !wanted.MatchString(key) })
		if len(keys) == 0 {
			continue
		}
		if err := serve(image, tree, args+s.name, keys); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", s.name, err)
			failed = true
		}
	}
	if failed {
		return errors.New("not all servers were measured")
	}
	return nil
}

// serve boots one server and measures what it is asked.
func serve(image, tree, args string, keys []string) error {
	dir, err := os.MkdirTemp("", "elver-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	var out bytes.Buffer
	monitor := filepath.Join(dir, "monitor")
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg", "-cpu", cpu, "-m", "512", "-nodefaults", "-display", "none", "-no-reboot",
		"-icount", "shift=0,rr=record,rrfile="+filepath.Join(dir, "record"), "-serial", "stdio", "-qmp", "unix:"+monitor+",server=on,wait=off",
		"-netdev", "tap,id=tap,ifname=tap0,script=no,downscript=no,vhost=off", "-device", "virtio-net-pci,netdev=tap,mac=52:54:00:12:34:56",
		"-object", "filter-replay,id=replay,netdev=tap", "-kernel", image, "-initrd", tree, "-append", args)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { // a machine that ends will not answer
		cmd.Wait()
		close(ended)
		cancel()
	}()
	defer func() {
		cancel()
		<-ended
	}()
	g := &guest{monitor: monitor, ctx: ctx}
	for _, key := range keys {
		cost, err := g.measure(key)
		if err != nil {
			cancel()
			<-ended
			return fmt.Errorf("%s: %w; the guest said %q", key, err, out.String())
		}
		fmt.Printf("bench %s %d\n", key, cost)
	}
	return nil
}

// guest is a VM with a server.
type guest struct {
	monitor string
	ctx     context.Context
}

// count returns how many instructions the guest has executed.
func (g *guest) count() (int, error) {
	c, err := net.Dial("unix", g.monitor)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	answers := json.NewDecoder(c)
	var answer struct {
		Return struct{ Icount int }
	}
	if err := answers.Decode(&answer); err != nil { // the greeting
		return 0, err
	}
	for _, command := range []string{"qmp_capabilities", "query-replay"} {
		if _, err := fmt.Fprintf(c, "{\"execute\": %q}\n", command); err != nil {
			return 0, err
		}
		if err := answers.Decode(&answer); err != nil {
			return 0, err
		}
	}
	if answer.Return.Icount == 0 {
		return 0, errors.New("QEMU doesn't tell how many instructions it executed")
	}
	return answer.Return.Icount, nil
}

// per returns what one of n operations costs when f does n of them, after it has done some.
func (g *guest) per(n int, f func(n int) error) (int, error) {
	if err := f(n/10 + 1); err != nil {
		return 0, err
	}
	before, err := g.count()
	if err != nil {
		return 0, err
	}
	if err := f(n); err != nil {
		return 0, err
	}
	after, err := g.count()
	return (after - before) / n, err
}

// dial connects to a port of the server, when there is one.
func (g *guest) dial(port string) (net.Conn, error) {
	for {
		d := net.Dialer{Timeout: 5 * time.Second}
		c, err := d.DialContext(g.ctx, "tcp", net.JoinHostPort(guestServer, port))
		if err == nil {
			c.SetDeadline(time.Now().Add(10 * time.Minute))
			return c, nil
		}
		if g.ctx.Err() != nil {
			return nil, err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (g *guest) measure(key string) (int, error) {
	switch key {
	case "redis-set":
		return g.redis(1, "SET key:000012345678 xxx", "+OK\r\n")
	case "redis-get":
		return g.redis(1, "GET key:000012345678", "$3\r\nxxx\r\n")
	case "redis-set-16":
		return g.redis(16, "SET key:000012345678 xxx", "+OK\r\n")
	case "redis-get-16":
		return g.redis(16, "GET key:000012345678", "$3\r\nxxx\r\n")
	case "http-keep":
		c, err := g.dial("80")
		if err != nil {
			return 0, err
		}
		defer c.Close()
		r := bufio.NewReader(c)
		return g.per(2000, func(n int) error {
			for range n {
				if err := get(c, r, ""); err != nil {
					return err
				}
			}
			return nil
		})
	case "http-close":
		return g.per(1000, func(n int) error {
			for range n {
				c, err := g.dial("80")
				if err != nil {
					return err
				}
				err = get(c, bufio.NewReader(c), "Connection: close\r\n")
				c.Close()
				if err != nil {
					return err
				}
			}
			return nil
		})
	case "tcp-in":
		return g.per(64, func(n int) error {
			c, err := g.dial("9")
			if err != nil {
				return err
			}
			defer c.Close()
			block := make([]byte, 1<<20)
			for range n {
				if _, err := c.Write(block); err != nil {
					return err
				}
			}
			c.(*net.TCPConn).CloseWrite()
			_, err = io.ReadFull(c, block[:1])
			return err
		})
	case "tcp-out":
		return g.per(64, func(n int) error {
			c, err := g.dial("19")
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := c.Write([]byte{byte(n)}); err != nil {
				return err
			}
			got, err := io.Copy(io.Discard, c)
			if err == nil && got != int64(n)<<20 {
				err = fmt.Errorf("%d bytes came instead of %d MiB", got, n)
			}
			return err
		})
	case "redis-idle", "nginx-idle":
		return g.per(5, func(n int) error {
			time.Sleep(time.Duration(n) * time.Second)
			return nil
		})
	}
	return 0, errors.New("nobody measures it")
}

// redis sends a command as often as the pipeline is long, waits for the answers, and so on: the cost of one.
func (g *guest) redis(pipeline int, command, answer string) (int, error) {
	c, err := g.dial("6379")
	if err != nil {
		return 0, err
	}
	defer c.Close()
	words := strings.Fields(command)
	request := fmt.Sprintf("*%d\r\n", len(words))
	for _, w := range words {
		request += fmt.Sprintf("$%d\r\n%s\r\n", len(w), w)
	}
	requests := []byte(strings.Repeat(request, pipeline))
	want := strings.Repeat(answer, pipeline)
	got := make([]byte, len(want))
	// The key has its value whichever rows are measured.
	if _, err := io.WriteString(c, "SET key:000012345678 xxx\r\n"); err != nil {
		return 0, err
	}
	if _, err := io.ReadFull(c, make([]byte, len("+OK\r\n"))); err != nil {
		return 0, err
	}
	cost, err := g.per(2000, func(n int) error {
		for range n {
			if _, err := c.Write(requests); err != nil {
				return err
			}
			if _, err := io.ReadFull(c, got); err != nil {
				return err
			}
			if string(got) != want {
				return fmt.Errorf("redis answers %q", got)
			}
		}
		return nil
	})
	return cost / pipeline, err
}

// get fetches the 1 KB page.
func get(c net.Conn, r *bufio.Reader, header string) error {
	if _, err := io.WriteString(c, "GET /1k HTTP/1.1\r\nHost: bench\r\n"+header+"\r\n"); err != nil {
		return err
	}
	length := 0
	for first := true; ; first = false {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		if first && !strings.HasPrefix(line, "HTTP/1.1 200 ") {
			return fmt.Errorf("nginx answers %q", line)
		}
		if v, ok := strings.CutPrefix(line, "Content-Length: "); ok {
			length, _ = strconv.Atoi(strings.TrimSpace(v))
		}
		if line == "\r\n" {
			break
		}
	}
	if length != 1024 {
		return fmt.Errorf("nginx sends %d bytes", length)
	}
	_, err := r.Discard(length)
	return err
}

// addTree adds a directory's content.
func (a *cpio) addTree(root string) error {
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		name, _ := filepath.Rel(root, path)
		for _, left := range []string{"usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/perl", "usr/lib/x86_64-linux-gnu/perl"} {
			if name == left {
				return fs.SkipDir
			}
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		mode := int(info.Mode().Perm())
		switch {
		case entry.IsDir():
			a.add(0o40000|mode, 0, 0, name, nil)
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			a.add(0o120777, 0, 0, name, []byte(target))
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			a.add(0o100000|mode, 0, 0, name, data)
		}
		return nil
	})
}

// addModules adds the virtio drivers that belong to a Linux image, boot/vmlinuz-VERSION, where they are modules,
// lib/modules/VERSION beside it.
func (a *cpio) addModules(image string) error {
	version, ok := strings.CutPrefix(filepath.Base(image), "vmlinuz-")
	if !ok {
		return nil
	}
	root := filepath.Join(filepath.Dir(image), "../lib/modules", version, "kernel")
	if _, err := os.Stat(root); err != nil {
		return nil
	}
	a.add(0o40755, 0, 0, "modules", nil)
	return filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		name := filepath.Base(path)
		switch name {
		case "virtio.ko", "virtio_ring.ko", "virtio_pci.ko", "virtio_pci_legacy_dev.ko", "virtio_pci_modern_dev.ko", "virtio_net.ko", "failover.ko", "net_failover.ko":
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			a.add(0o100644, 0, 0, "modules/"+name, data)
		}
		return err
	})
}
