// Gonet is Go's net, net/http and crypto/tls over loopback: their own poller, dialer, resolver and servers.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"elver/test/programs/check"
)

func main() {
	check.Main(
		check.Test{Name: "streams", Run: streams},
		check.Test{Name: "deadlines", Run: deadlines},
		check.Test{Name: "refused", Run: refused},
		check.Test{Name: "half-closed", Run: halfClosed},
		check.Test{Name: "both-families", Run: bothFamilies},
		check.Test{Name: "datagrams", Run: datagrams},
		check.Test{Name: "unix", Run: unixSockets},
		check.Test{Name: "resolver", Run: resolver},
		check.Test{Name: "http", Run: web},
		check.Test{Name: "http2", Run: web2},
		check.Test{Name: "many-clients", Run: manyClients},
		check.Test{Name: "interfaces", Run: interfaces},
		check.Test{Name: "cancel", Run: cancel},
	)
}

// limit ends a wait that lasts too long.
var limit = time.Minute

func echo(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			io.Copy(c, c)
		}()
	}
}

func streams() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	go echo(l)
	data := make([]byte, 3<<20)
	rand.Read(data)
	var all sync.WaitGroup
	failures := make(chan error, 10)
	for range 5 {
		all.Go(func() {
			c, err := net.DialTimeout("tcp", l.Addr().String(), limit)
			if err != nil {
				failures <- err
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(limit))
			go func() {
				c.Write(data)
				c.(*net.TCPConn).CloseWrite()
			}()
			back, err := io.ReadAll(c)
			if err != nil || sha256.Sum256(back) != sha256.Sum256(data) {
				failures <- fmt.Errorf("%d of %d bytes came back, %v", len(back), len(data), err)
			}
		})
	}
	all.Wait()
	close(failures)
	return <-failures
}

func pair() (a, b *net.TCPConn, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	s, err := l.Accept()
	if err != nil {
		return nil, nil, err
	}
	return c.(*net.TCPConn), s.(*net.TCPConn), nil
}

func deadlines() error {
	a, b, err := pair()
	if err != nil {
		return err
	}
	defer a.Close()
	defer b.Close()
	a.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("a read with a deadline: %v", err)
	}
	a.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	for err = nil; err == nil; {
		_, err = a.Write(make([]byte, 1<<20))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("a write with a deadline: %v", err)
	}
	go func() {
		time.Sleep(50 * time.Millisecond)
		a.Close()
	}()
	a.SetReadDeadline(time.Time{})
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("a read of what is closed meanwhile: %v", err)
	}
	return nil
}

func refused() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	l.Close()
	if _, err := net.Dial("tcp", l.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("dialing nobody: %v", err)
	}
	a, b, err := pair()
	if err != nil {
		return err
	}
	defer b.Close()
	a.SetLinger(0)
	a.Close()
	b.SetReadDeadline(time.Now().Add(limit))
	if _, err := b.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("after a reset: %v", err)
	}
	return nil
}

func halfClosed() error {
	a, b, err := pair()
	if err != nil {
		return err
	}
	defer a.Close()
	defer b.Close()
	a.Write([]byte("question"))
	a.CloseWrite()
	b.SetDeadline(time.Now().Add(limit))
	a.SetDeadline(time.Now().Add(limit))
	if p, err := io.ReadAll(b); string(p) != "question" || err != nil {
		return fmt.Errorf("got %q, %v", p, err)
	}
	b.Write([]byte("answer"))
	b.Close()
	if p, err := io.ReadAll(a); string(p) != "answer" || err != nil {
		return fmt.Errorf("got %q, %v", p, err)
	}
	return nil
}

func bothFamilies() error {
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		return err
	}
	defer l.Close()
	go echo(l)
	port := l.Addr().(*net.TCPAddr).Port
	for _, host := range []string{"127.0.0.1", "[::1]"} {
		c, err := net.DialTimeout("tcp", fmt.Sprintf("%s:%d", host, port), limit)
		if err != nil {
			return err
		}
		fmt.Fprintln(c, host)
		c.SetReadDeadline(time.Now().Add(limit))
		line, err := bufio.NewReader(c).ReadString('\n')
		c.Close()
		if line != host+"\n" {
			return fmt.Errorf("%s: %q, %v", host, line, err)
		}
	}
	return nil
}

func datagrams() error {
	s, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer s.Close()
	go func() {
		p := make([]byte, 2000)
		for {
			n, from, err := s.ReadFrom(p)
			if err != nil {
				return
			}
			s.WriteTo(bytes.ToUpper(p[:n]), from)
		}
	}()
	c, err := net.Dial("udp", s.LocalAddr().String())
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(limit))
	for i := range 100 {
		fmt.Fprintf(c, "message %d", i)
		p := make([]byte, 100)
		n, err := c.Read(p)
		if want := fmt.Sprintf("MESSAGE %d", i); string(p[:n]) != want {
			return fmt.Errorf("got %q, %v", p[:n], err)
		}
	}
	s.Close()
	c.Write([]byte("x"))
	time.Sleep(20 * time.Millisecond)
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("with nobody there: %v", err)
	}
	return nil
}

func unixSockets() error {
	dir, err := os.MkdirTemp("", "gonet")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l, err := net.Listen("unix", dir+"/socket")
	if err != nil {
		return err
	}
	go echo(l)
	c, err := net.Dial("unix", dir+"/socket")
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(limit))
	fmt.Fprintln(c, "by a path")
	if line, err := bufio.NewReader(c).ReadString('\n'); line != "by a path\n" {
		return fmt.Errorf("%q, %v", line, err)
	}
	l.Close()
	if _, err := os.Stat(dir + "/socket"); !os.IsNotExist(err) {
		return fmt.Errorf("the path of a closed listener: %v", err)
	}
	return nil
}

// answers is a name server that knows one name.
func answers(s net.PacketConn) {
	p := make([]byte, 512)
	for {
		n, from, err := s.ReadFrom(p)
		if err != nil || n < 12 {
			return
		}
		end := 12
		for end < n && p[end] != 0 {
			end += int(p[end]) + 1
		}
		question := p[12 : end+5]
		kind := binary.BigEndian.Uint16(p[end+1:])
		r := append([]byte{p[0], p[1], 0x85, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, question...)
		if strings.HasPrefix(string(question), "\x04host\x04test\x00") {
			if kind == 1 {
				r[7] = 1
				r = append(r, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7)
			}
		} else {
			r[3] |= 3 // no such name
		}
		s.WriteTo(r, from)
	}
}

func resolver() error {
	s, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer s.Close()
	go answers(s)
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.LocalAddr().String())
	}}
	ctx, stop := context.WithTimeout(context.Background(), limit)
	defer stop()
	got, err := r.LookupNetIP(ctx, "ip", "host.test.")
	if err != nil || len(got) != 1 || got[0].Unmap() != netip.MustParseAddr("192.0.2.7") {
		return fmt.Errorf("host.test is %v, %v", got, err)
	}
	var missing *net.DNSError
	if _, err := r.LookupHost(ctx, "nohost.test."); !errors.As(err, &missing) || !missing.IsNotFound {
		return fmt.Errorf("nohost.test: %v", err)
	}
	return nil
}

func page(w http.ResponseWriter, q *http.Request) {
	body, _ := io.ReadAll(q.Body)
	w.Header().Set("X-Protocol", q.Proto)
	fmt.Fprintf(w, "%s %s %d\n", q.Method, q.URL.Path, len(body))
	w.Write(bytes.Repeat([]byte("0123456789abcdef"), 1<<14))
}

func fetch(c *http.Client, url, protocol string) error {
	r, err := c.Post(url+"/path", "text/plain", bytes.NewReader(make([]byte, 100000)))
	if err != nil {
		return err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || !bytes.HasPrefix(body, []byte("POST /path 100000\n")) || len(body) != 18+1<<18 {
		return fmt.Errorf("%d bytes, %v", len(body), err)
	}
	if got := r.Header.Get("X-Protocol"); got != protocol {
		return fmt.Errorf("%s, not %s", got, protocol)
	}
	return nil
}

func web() error {
	s := httptest.NewServer(http.HandlerFunc(page))
	defer s.Close()
	c := s.Client()
	c.Timeout = limit
	for range 20 {
		if err := fetch(c, s.URL, "HTTP/1.1"); err != nil {
			return err
		}
	}
	return nil
}

// certificate makes one for 127.0.0.1: that of httptest has an RSA key, which takes long where nothing helps.
func certificate() (tls.Certificate, *x509.CertPool, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(c)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool, nil
}

func web2() error {
	own, pool, err := certificate()
	if err != nil {
		return err
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(page))
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of connections that the client turns out not to need
	s.TLS = &tls.Config{Certificates: []tls.Certificate{own}}
	s.StartTLS()
	defer s.Close()
	c := &http.Client{Timeout: limit, Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer c.CloseIdleConnections()
	var all sync.WaitGroup
	failures := make(chan error, 10)
	for range 10 {
		all.Go(func() {
			if err := fetch(c, s.URL, "HTTP/2.0"); err != nil {
				failures <- err
			}
		})
	}
	all.Wait()
	close(failures)
	return <-failures
}

func manyClients() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	go echo(l)
	var all sync.WaitGroup
	failures := make(chan error, 200)
	for i := range 200 {
		all.Go(func() {
			c, err := net.DialTimeout("tcp", l.Addr().String(), limit)
			if err != nil {
				failures <- err
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(limit))
			r := bufio.NewReader(c)
			for k := range 5 {
				fmt.Fprintf(c, "%d %d\n", i, k)
				if line, err := r.ReadString('\n'); line != fmt.Sprintf("%d %d\n", i, k) {
					failures <- fmt.Errorf("%q, %v", line, err)
					return
				}
			}
		})
	}
	all.Wait()
	close(failures)
	return <-failures
}

func interfaces() error {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return err
	}
	if lo.Index != 1 || lo.Flags&net.FlagLoopback == 0 || lo.Flags&net.FlagUp == 0 || lo.MTU != 65536 {
		return fmt.Errorf("lo is %+v", lo)
	}
	addresses, err := lo.Addrs()
	if err != nil {
		return err
	}
	if !strings.Contains(fmt.Sprint(addresses), "127.0.0.1/8") {
		return fmt.Errorf("lo has %v", addresses)
	}
	return nil
}

// cancel ends a dial that nobody answers: the backlog of who listens is full.
func cancel() error {
	s, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(s)
	if err := syscall.Bind(s, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	syscall.Listen(s, 0)
	name, err := syscall.Getsockname(s)
	if err != nil {
		return err
	}
	where := fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
	for range 20 {
		ctx, stop := context.WithTimeout(context.Background(), 100*time.Millisecond)
		c, err := new(net.Dialer).DialContext(ctx, "tcp", where)
		stop()
		if err != nil {
			if !errors.Is(err, context.DeadlineExceeded) && !os.IsTimeout(err) {
				return err
			}
			return nil
		}
		defer c.Close()
	}
	return errors.New("a backlog of 0 took 20 connections")
}
