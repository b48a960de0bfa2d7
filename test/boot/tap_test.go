package boot

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"elver/test/need"
)

// The two ends of the tap: the host's addresses, and what the guest makes of its card's.
const (
	tapHost4  = "10.99.0.1"
	tapGuest4 = "10.99.0.2"
	tapHost6  = "fd00:99::1"
	tapGuest6 = "fd00:99::5054:ff:fe12:3456"
	tapMAC    = "52:54:00:12:34:56"
)

// inNamespace runs the test again in a network namespace of its own that has a tap device, and returns true
// there. Where such things are not to be had, the test is skipped.
func inNamespace(t *testing.T) bool {
	t.Helper()
	const inside = "ELVER_IN_NAMESPACE"
	if os.Getenv(inside) == t.Name() {
		for _, line := range []string{
			"link set lo up", "tuntap add dev tap0 mode tap vnet_hdr", "addr add " + tapHost4 + "/24 dev tap0",
			"-6 addr add " + tapHost6 + "/64 dev tap0 nodad", "link set tap0 up",
		} {
			if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
				fmt.Printf("no tap: ip %s: %v: %s\n", line, err, out)
				os.Exit(0)
			}
		}
		return true
	}
	need.Command(t, "ip")
	vms <- struct{}{}
	defer func() { <-vms }()
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=1h")
	cmd.Env = append(os.Environ(), inside+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	switch {
	case bytes.HasPrefix(out, []byte("no tap")) || bytes.Contains(out, []byte("\nno tap: ")):
		t.Skip(string(out))
	case len(out) == 0 && err != nil:
		t.Skipf("a network namespace is not to be had: %v", err)
	case err != nil:
		t.Fatalf("in the namespace: %v\n%s", err, out)
	}
	return false
}

// onTap boots the server behind the tap, calls f when it serves, and has it end.
func onTap(t *testing.T, card string, f func(t *testing.T)) {
	v := vm{
		program: build(t, goProgram, "netserver"), mem: 128, timeout: 8 * time.Minute,
		args: "netdev.ip=" + tapGuest4 + "/24:" + tapHost4 + " -- netserver",
		qemu: []string{"-netdev", "tap,id=tap,ifname=tap0,script=no,downscript=no,vhost=off", "-device", card + ",netdev=tap,mac=" + tapMAC},
	}
	if strings.HasSuffix(card, "-device") {
		v.script = []string{"-t", "microvm"}
	}
	ended := make(chan result, 1)
	go func() { ended <- v.run(t) }()
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		// What the guest says is worth a while; the end of the namespace's first process ends it.
		select {
		case r := <-ended:
			t.Logf("the server: %v", r)
		case <-time.After(20 * time.Second):
			t.Log("the guest goes on")
		}
	})
	advertise(t)
	var err error
	for range 300 {
		var c net.Conn
		if c, err = net.DialTimeout("tcp", tapGuest4+":7", time.Second); err == nil {
			c.Close()
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	if err != nil {
		t.Fatalf("nothing serves: %v", err)
	}
	f(t)
	if got := order(t, "quit"); got != "bye" {
		t.Errorf("quit: %q", got)
	}
	r := <-ended
	if ended <- r; r.status != 0 {
		t.Error("the server failed")
	}
}

// advertise sends router advertisements (RFC 4861, 4.2) for the prefix until the test is over.
func advertise(t *testing.T) {
	ra := []byte{134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0} // a router for 1800 s
	ra = append(ra, 3, 4, 64, 0xc0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)   // a prefix, on the link and to make addresses of
	ra = append(ra, net.ParseIP("fd00:99::")...)
	ra = append(ra, 25, 5, 0, 0, 0, 0, 1, 0) // name servers for 256 s
	ra = append(append(ra, net.ParseIP(tapHost6)...), net.ParseIP("fe80::53")...)
	fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, syscall.IPPROTO_ICMPV6)
	if err != nil {
		t.Fatal(err)
	}
	syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_MULTICAST_HOPS, 255)
	i, err := net.InterfaceByName("tap0")
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	go func() {
		defer syscall.Close(fd)
		for {
			syscall.Sendto(fd, ra, 0, &syscall.SockaddrInet6{Addr: [16]byte(net.ParseIP("ff02::1")), ZoneId: uint32(i.Index)})
			select {
			case <-over:
				return
			case <-time.After(500 * time.Millisecond):
			}
		}
	}()
}

func dial(t *testing.T, address, port string) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", net.JoinHostPort(address, port), 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(2 * time.Minute))
	return c
}

func order(t *testing.T, what string) string {
	t.Helper()
	c := dial(t, tapGuest4, "1")
	defer c.Close()
	fmt.Fprintln(c, what)
	answer, _ := io.ReadAll(c)
	return strings.TrimSpace(string(answer))
}

// serves checks everything that the server does, at an address.
func serves(t *testing.T, address string, size int) {
	t.Helper()
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	sum := fmt.Sprintf("%x", sha256.Sum256(data))

	c := dial(t, address, "9")
	if _, err := c.Write(data); err != nil {
		t.Errorf("%s: sending %d bytes: %v", address, size, err)
	}
	c.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(c); string(got) != sum {
		t.Errorf("%s: %d bytes arrived changed: %q, %v", address, size, got, err)
	}
	c.Close()

	downloads(t, address, size)

	c = dial(t, address, "7")
	for n := 1; n <= min(size, 10_000); n = n*3 + 1 {
		b := make([]byte, n)
		c.Write(data[:n])
		if _, err := io.ReadFull(c, b); err != nil || !bytes.Equal(b, data[:n]) {
			t.Errorf("%s: an echo of %d bytes: %v", address, n, err)
		}
	}
	c.Close()

	u, err := net.Dial("udp", net.JoinHostPort(address, "7"))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	for _, n := range []int{0, 1, 1000, 1472, 1473, 9000, 40_000} {
		n = min(n, size)
		b := make([]byte, 65536)
		for try := 0; ; try++ {
			u.Write(data[:n])
			u.SetReadDeadline(time.Now().Add(5 * time.Second))
			k, err := u.Read(b)
			if err == nil && bytes.Equal(b[:k], data[:n]) {
				break
			}
			if try == 5 {
				t.Errorf("%s: a datagram of %d bytes: %d, %v", address, n, k, err)
				break
			}
		}
	}
}

// downloads has the server send that many bytes.
func downloads(t *testing.T, address string, size int) {
	t.Helper()
	c := dial(t, address, "19")
	defer c.Close()
	fmt.Fprintln(c, size, size%251)
	got, err := io.ReadAll(c)
	if len(got) != size+64 || fmt.Sprintf("%x", sha256.Sum256(got[:max(len(got)-64, 0)])) != string(got[max(len(got)-64, 0):]) {
		t.Errorf("%s: %d bytes came of %d, or changed ones: %v", address, len(got), size, err)
	}
}

// secure has the guest's HTTP/2 echo several bodies at once on one connection.
func secure(t *testing.T, address string) {
	t.Helper()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true, // the certificate is for tests
	}}
	defer client.CloseIdleConnections()
	body := strings.Repeat("what the host says\n", 20_000)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			r, err := client.Post("https://"+net.JoinHostPort(address, "443")+"/", "text/plain", strings.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Body.Close()
			if got, err := io.ReadAll(r.Body); string(got) != "HTTP/2.0\n"+body {
				t.Errorf("%s: %d bytes by HTTP/2, %v", address, len(got), err)
			}
		})
	}
	all.Wait()
}

func pings(t *testing.T, address string) {
	t.Helper()
	if _, err := exec.LookPath("ping"); err != nil {
		return
	}
	if out, err := exec.Command("ping", "-c", "3", "-i", "0.2", "-W", "10", address).CombinedOutput(); err != nil {
		t.Errorf("ping %s: %v: %s", address, err, out)
	}
}

// TestTap serves over IPv4 and IPv6, with the card's offloads and without, and is pinged and pings.
func TestTap(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	const none = ",mrg_rxbuf=off,csum=off,guest_csum=off,gso=off,guest_tso4=off,guest_tso6=off,guest_ufo=off,guest_ecn=off,host_tso4=off,host_tso6=off,host_ufo=off,host_ecn=off,event_idx=off"
	for _, row := range []struct {
		name, card string
		size       int
	}{
		{"pci", "virtio-net-pci", 6_000_000},
		{"mmio", "virtio-net-device", 1_000_000},
		{"no-offloads", "virtio-net-pci" + none, 1_000_000},
	} {
		t.Run(row.name, func(t *testing.T) {
			onTap(t, row.card, func(t *testing.T) {
				serves(t, tapGuest4, row.size)
				secure(t, tapGuest4)
				wait6(t)
				serves(t, tapGuest6, row.size)
				secure(t, tapGuest6)
				pings(t, tapGuest4)
				pings(t, tapGuest6)
				if got, want := order(t, "resolver"), "nameserver "+tapHost6+"\nnameserver fe80::53%eth0"; got != want {
					t.Errorf("resolv.conf says %q, the router %q", got, want)
				}
				for _, host := range []string{tapHost4, tapHost6} {
					if got := order(t, "ping "+host); got != "<nil>" {
						t.Errorf("the guest pings %s: %s", host, got)
					}
				}
			})
		})
	}
}

// TestWatchedCard sends from a card that packet sockets watch, and while it is taken down and up.
func TestWatchedCard(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	onTap(t, "virtio-net-pci", func(t *testing.T) {
		for range 3 {
			if got := order(t, "watch"); got != "can this be seen?\n<nil>" {
				t.Errorf("watched: %q", got)
			}
		}
		over := make(chan struct{})
		go func() {
			defer close(over)
			downloads(t, tapGuest4, 20_000_000)
		}()
		if got := order(t, "flap"); got != "<nil>" {
			t.Errorf("the interface is taken down and up: %q", got)
		}
		<-over
	})
}

// wait6 waits until the guest has made itself an address.
func wait6(t *testing.T) {
	t.Helper()
	for range 100 {
		c, err := net.DialTimeout("tcp", net.JoinHostPort(tapGuest6, "7"), time.Second)
		if err == nil {
			c.Close()
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	t.Fatal("the guest made itself no address")
}

// TestMalformedPackets sends what no sane peer does, and expects the guest to serve as before.
func TestMalformedPackets(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	onTap(t, "virtio-net-pci", func(t *testing.T) {
		wait6(t)
		i, err := net.InterfaceByName("tap0")
		if err != nil {
			t.Fatal(err)
		}
		fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer syscall.Close(fd)
		to := &syscall.SockaddrLinklayer{Ifindex: i.Index}
		r := rand.New(rand.NewPCG(1, 2))
		frames := 5000
		if soak {
			frames = 100_000
		}
		for n := range frames {
			syscall.Sendto(fd, nonsense(r, i.HardwareAddr), 0, to)
			if n%2000 == 0 {
				serves(t, tapGuest4, 10_000)
			}
		}
		serves(t, tapGuest4, 100_000)
		serves(t, tapGuest6, 100_000)
	})
}

// nonsense is a frame to the guest: a good one of some protocol in which some bytes are not.
func nonsense(r *rand.Rand, from net.HardwareAddr) []byte {
	guest, _ := net.ParseMAC(tapMAC)
	be := binary.BigEndian
	p := append(append([]byte{}, guest...), from...)
	if r.IntN(10) == 0 {
		copy(p, "\xff\xff\xff\xff\xff\xff")
	}
	ip4 := func(protocol byte, body []byte) []byte {
		h := make([]byte, 20)
		h[0], h[8], h[9] = 0x45, 64, protocol
		be.PutUint16(h[2:], uint16(20+len(body)))
		be.PutUint16(h[4:], uint16(r.Uint32()))
		if r.IntN(4) == 0 {
			be.PutUint16(h[6:], uint16(r.Uint32())) // fragments
		}
		copy(h[12:], net.ParseIP(tapHost4).To4())
		copy(h[16:], net.ParseIP(tapGuest4).To4())
		if r.IntN(10) != 0 {
			be.PutUint16(h[10:], ^sum(0, h))
		}
		return append(append([]byte{8, 0}, h...), body...)
	}
	ip6 := func(protocol byte, body []byte) []byte {
		h := make([]byte, 40)
		h[0], h[6], h[7] = 0x60, protocol, 255
		be.PutUint16(h[4:], uint16(len(body)))
		copy(h[8:], net.ParseIP(tapHost6))
		copy(h[24:], net.ParseIP(tapGuest6))
		if protocol == 58 && len(body) > 4 {
			body[2], body[3] = 0, 0
			pseudo := append(append([]byte{}, h[8:40]...), 0, 0, byte(len(body)>>8), byte(len(body)), 0, 0, 0, 58)
			be.PutUint16(body[2:], ^sum(uint32(sum(0, pseudo)), body))
		}
		return append(append([]byte{0x86, 0xdd}, h...), body...)
	}
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	tcp := func() []byte {
		b := random(20 + r.IntN(40))
		be.PutUint16(b[2:], []uint16{7, 9, 19, 1, 80}[r.IntN(5)])
		b[12] = byte(5+r.IntN(11)) << 4
		if r.IntN(2) == 0 {
			b[13] = 2 // SYN
		}
		return b
	}
	switch r.IntN(10) {
	case 0:
		p = append(p, random(r.IntN(100))...)
	case 1: // ARP
		p = append(append(p, 8, 6, 0, 1, 8, 0, 6, 4, 0), random(21)...)
	case 2, 3:
		p = append(p, ip4(6, tcp())...)
	case 4: // DHCP and other datagrams
		b := append([]byte{0, 67, 0, 68, 0, 0, 0, 0}, random(r.IntN(400))...)
		be.PutUint16(b[4:], uint16(len(b)))
		p = append(p, ip4(17, b)...)
	case 5:
		p = append(p, ip4(byte(r.Uint32()), random(r.IntN(200)))...)
	case 6: // neighbours and routers
		b := random(8 + r.IntN(80))
		b[0], b[1] = byte(133+r.IntN(5)), 0
		if b[0] == 134 { // not so that the guest loses its addresses
			b[0] = 135
		}
		p = append(p, ip6(58, b)...)
	case 7: // extension headers
		p = append(p, ip6([]byte{0, 43, 44, 60, 59, 6, 17}[r.IntN(7)], random(r.IntN(200)))...)
	case 8:
		p = append(p, ip4(1, random(r.IntN(100)))...)
	case 9:
		p = append(p, ip4(6, tcp())...)
		p = p[:14+r.IntN(len(p)-14)]
	}
	for range r.IntN(3) {
		if n := len(p) - 14; n > 0 {
			p[14+r.IntN(n)] ^= byte(r.Uint32())
		}
	}
	return p[:min(len(p), 1514)]
}

// sum is the Internet's checksum, not inverted.
func sum(s uint32, b []byte) uint16 {
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(b[i])<<8 | uint32(b[i+1])
	}
	if len(b)%2 == 1 {
		s += uint32(b[len(b)-1]) << 8
	}
	for s > 0xffff {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

// TestManyConnections holds idle connections and makes short ones, and expects the guest to have what it had
// before.
func TestManyConnections(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	idle, short := 200, 500
	if soak {
		idle, short = 2000, 20_000
	}
	onTap(t, "virtio-net-pci", func(t *testing.T) {
		var files, free int
		count := func() (f, m int) {
			fmt.Sscan(order(t, "count"), &f, &m)
			return f, m
		}
		files, free = count()
		var held []net.Conn
		for range idle {
			held = append(held, dial(t, tapGuest4, "7"))
		}
		serves(t, tapGuest4, 100_000)
		for _, c := range held {
			c.Close()
		}
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				for range short / 4 {
					c, err := net.DialTimeout("tcp", tapGuest4+":7", 30*time.Second)
					if err != nil {
						t.Error(err)
						return
					}
					c.SetDeadline(time.Now().Add(time.Minute))
					c.Write([]byte("short"))
					b := make([]byte, 5)
					if _, err := io.ReadFull(c, b); err != nil {
						t.Error(err)
					}
					c.Close()
				}
			})
		}
		group.Wait()
		var f, m int
		for range 100 { // what is closed is gone soon after
			if f, m = count(); f <= files && m > free-40 {
				return
			}
			time.Sleep(200 * time.Millisecond)
		}
		t.Errorf("%d files and %d MB free, before there were %d and %d", f, m, files, free)
	})
}
