// Netserver is what the tests of the network talk to: on all addresses, TCP and UDP echo on port 7, a drain
// that answers with the sum on 9, one that reads nothing until its peer has closed on 11, an echo that has what it
// answers acknowledged before on 13, one that says a word corked and closes on 17, a source of as many bytes as it is
// asked for on 19, and orders on 1.
package main

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

func main() {
	serve("9", func(c net.Conn) {
		h := sha256.New()
		io.Copy(h, c)
		fmt.Fprintf(c, "%x", h.Sum(nil))
	})
	serve("11", func(c net.Conn) {
		// The end of a peer that has much to say is an error, which asks for no bytes to be read.
		for raw, _ := c.(*net.TCPConn).SyscallConn(); ; time.Sleep(time.Second) {
			failed := 0
			raw.Control(func(fd uintptr) { failed, _ = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR) })
			if failed != 0 {
				return
			}
		}
	})
	serve("13", func(c net.Conn) {
		b := make([]byte, 4096)
		for raw, _ := c.(*net.TCPConn).SyscallConn(); ; {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			raw.Control(func(fd uintptr) { syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1) })
			c.Write(b[:n])
		}
	})
	serve("17", func(c net.Conn) {
		raw, _ := c.(*net.TCPConn).SyscallConn()
		raw.Control(func(fd uintptr) { syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_CORK, 1) })
		io.WriteString(c, "farewell")
	})
	serve("19", func(c net.Conn) {
		var n, begin int
		if _, err := fmt.Fscanln(c, &n, &begin); err == nil {
			h := sha256.New()
			w := io.MultiWriter(c, h)
			block := make([]byte, 50_000)
			for i := range block {
				block[i] = byte(begin + i*7)
			}
			for ; n > 0; n -= len(block) {
				w.Write(block[:min(n, len(block))])
			}
			fmt.Fprintf(c, "%x", h.Sum(nil))
		}
	})
	serve("1", order)
	u, err := net.ListenPacket("udp", ":7")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	// Who can connect to this one finds the others too.
	serve("7", func(c net.Conn) {
		// Without splice(2), for which Go keeps pipes.
		io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
	})
	secure()
	fmt.Println("serving")
	b := make([]byte, 65536)
	for {
		n, from, err := u.ReadFrom(b)
		if err == nil {
			u.WriteTo(b[:n], from)
		}
	}
}

// secure serves HTTP/2 over TLS on port 443, with a certificate for tests.
func secure() {
	l, err := net.Listen("tcp", ":443")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, r.Proto)
		io.Copy(w, r.Body)
	}))
	s.Listener.Close()
	s.Listener, s.EnableHTTP2 = l, true
	s.StartTLS()
}

func serve(port string, f func(net.Conn)) {
	l, err := net.Listen("tcp", ":"+port)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				fmt.Println(err)
				continue
			}
			go func() {
				defer c.Close()
				f(c)
			}()
		}
	}()
}

// order does what a line asks for: to end, to ping an address, to show the name servers, or to count open files
// and free memory.
func order(c net.Conn) {
	line, _ := bufio.NewReader(c).ReadString('\n')
	switch words := strings.Fields(line); {
	case len(words) == 1 && words[0] == "quit":
		fmt.Fprintln(c, "bye")
		c.Close()
		time.Sleep(100 * time.Millisecond)
		os.Exit(0)
	case len(words) == 2 && words[0] == "ping":
		fmt.Fprintln(c, ping(net.ParseIP(words[1])))
	case len(words) == 1 && words[0] == "resolver":
		text, _ := os.ReadFile("/etc/resolv.conf")
		c.Write(text)
	case len(words) == 1 && words[0] == "count":
		files, _ := os.ReadDir("/proc/self/fd")
		tcp, _ := os.ReadFile("/proc/net/sockstat")
		var s syscall.Sysinfo_t
		syscall.Sysinfo(&s)
		fmt.Fprintln(c, len(files), s.Freeram*uint64(s.Unit)>>20, strings.ReplaceAll(string(tcp), "\n", " "))
	case len(words) == 1 && words[0] == "watch":
		fmt.Fprintln(c, watch(c))
	case len(words) == 1 && words[0] == "flap":
		fmt.Fprintln(c, flap())
	default:
		fmt.Fprintln(c, "what?")
	}
}

// watch sends a line, and returns when a packet socket that was opened before has seen that.
func watch(c net.Conn) error {
	const all = 0x300 // ETH_P_ALL
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW, all)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	eth0, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	if err := syscall.Bind(fd, &syscall.SockaddrLinklayer{Protocol: all, Ifindex: eth0.Index}); err != nil {
		return err
	}
	timeout := syscall.Timeval{Sec: 30}
	syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &timeout)
	const line = "can this be seen?\n"
	io.WriteString(c, line)
	for b := make([]byte, 65536); ; {
		n, from, err := syscall.Recvfrom(fd, b, 0)
		if err != nil {
			return err
		}
		if at, ok := from.(*syscall.SockaddrLinklayer); ok && at.Pkttype == syscall.PACKET_OUTGOING && strings.HasSuffix(string(b[:n]), line) {
			return nil
		}
	}
}

// flap takes the interface down and up again, a few times.
func flap() error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	r := struct {
		name  [syscall.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}{name: [syscall.IFNAMSIZ]byte{'e', 't', 'h', '0'}}
	for i := range 6 {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCGIFFLAGS, uintptr(unsafe.Pointer(&r))); errno != 0 {
			return errno
		}
		r.flags ^= syscall.IFF_UP
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&r))); errno != 0 {
			return errno
		}
		time.Sleep(time.Duration(10+20*i) * time.Millisecond)
	}
	return nil
}

// ping sends one echo request, as ping(8) does without privileges.
func ping(to net.IP) error {
	family, protocol, kind := syscall.AF_INET, syscall.IPPROTO_ICMP, byte(8)
	var address syscall.Sockaddr
	if four := to.To4(); four != nil {
		address = &syscall.SockaddrInet4{Addr: [4]byte(four)}
	} else {
		family, protocol, kind = syscall.AF_INET6, syscall.IPPROTO_ICMPV6, 128
		address = &syscall.SockaddrInet6{Addr: [16]byte(to)}
	}
	fd, err := syscall.Socket(family, syscall.SOCK_DGRAM, protocol)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	timeout := syscall.Timeval{Sec: 10}
	syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &timeout)
	m := append([]byte{kind, 0, 0, 0, 0, 0, 0, 1}, "are you there?"...)
	if family == syscall.AF_INET { // the kernel has the identifier to fill in, and the sum with it
		m[2], m[3] = 0, 0
	}
	if err := syscall.Sendto(fd, m, 0, address); err != nil {
		return err
	}
	b := make([]byte, 1500)
	n, _, err := syscall.Recvfrom(fd, b, 0)
	if err != nil {
		return err
	}
	if n != len(m) || string(b[8:n]) != "are you there?" {
		return fmt.Errorf("%d bytes: %q", n, b[:n])
	}
	return nil
}
