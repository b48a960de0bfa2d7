package boot

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// knownNames are what the test's name server knows: addresses of both families. Of those of "big" a datagram holds but
// some, so that resolvers have to ask again over TCP.
var knownNames = map[string][]string{
	"server.test.example": {tapHost4, tapHost6},
	"four.test.example":   {"192.0.2.4"},
	"six.test.example":    {"2001:db8::6"},
	"big.test.example":    nil,
}

func init() {
	for i := range 60 {
		knownNames["big.test.example"] = append(knownNames["big.test.example"], fmt.Sprintf("192.0.2.%d", 100+i))
	}
}

// answer is what a name server says to a question (RFC 1035, 4.1), nil if it is none.
func answer(q []byte, most int) []byte {
	const headerSize, flagTruncated, nameError = 12, 1 << 9, 3
	be := binary.BigEndian
	if len(q) < headerSize || be.Uint16(q[4:]) != 1 {
		return nil
	}
	var labels []string
	at := headerSize
	for at < len(q) && q[at] != 0 {
		n := int(q[at])
		if at+1+n >= len(q) {
			return nil
		}
		labels = append(labels, string(q[at+1:at+1+n]))
		at += 1 + n
	}
	if at+5 > len(q) {
		return nil
	}
	kind := be.Uint16(q[at+1:])
	at += 5
	flags := uint16(0x8580) // an answer, of authority, recursion is wanted and to be had
	list, known := knownNames[strings.ToLower(strings.Join(labels, "."))]
	if !known {
		flags |= nameError
	}
	a := append(make([]byte, headerSize), q[headerSize:at]...)
	count := 0
	for _, text := range list {
		ip := net.ParseIP(text)
		data := []byte(ip)
		if four := ip.To4(); four != nil && kind == 1 {
			data = four
		} else if four != nil || kind != 28 {
			continue
		}
		if count == most {
			flags |= flagTruncated
			break
		}
		count++
		a = append(a, 0xc0, headerSize) // the question's name
		a = be.AppendUint16(a, kind)
		a = append(a, 0, 1, 0, 0, 0, 60, 0, byte(len(data)))
		a = append(a, data...)
	}
	copy(a, q[:2])
	be.PutUint16(a[2:], flags)
	be.PutUint16(a[4:], 1)
	be.PutUint16(a[6:], uint16(count))
	return a
}

// nameServer answers at the host's end of the tap.
func nameServer(t *testing.T) {
	u, err := net.ListenPacket("udp", tapHost4+":53")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			if a := answer(b[:n], 10); a != nil {
				u.WriteTo(a, from)
			}
		}
	}()
	l, err := net.Listen("tcp", tapHost4+":53")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(time.Minute))
				for {
					var size [2]byte
					if _, err := io.ReadFull(c, size[:]); err != nil {
						return
					}
					q := make([]byte, binary.BigEndian.Uint16(size[:]))
					if _, err := io.ReadFull(c, q); err != nil {
						return
					}
					a := answer(q, 1000)
					c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...))
				}
			}()
		}
	}()
}

// TestResolvers has the resolvers of glibc, musl and Go look names up at a server on the host, and curl fetch by
// name: addresses of both families, answers that a datagram doesn't hold, the search domain, names that nobody has.
func TestResolvers(t *testing.T) {
	root := serversRoot.dir(t) // before there is a network of its own, out of which nothing can be fetched
	if !inNamespace(t) {
		return
	}
	dir, err := os.MkdirTemp(filepath.Join(root, "tmp"), "resolvers")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	inside := "/tmp/" + filepath.Base(dir)
	for name, path := range map[string]string{"musl": build(t, musl, "lookup"), "go": build(t, goProgram, "golookup"), "glibc": build(t, dynamic, "lookup")} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	nameServer(t)
	l, err := net.Listen("tcp", ":8000")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "for", r.Host) })}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	script := `cd ` + inside + `
		for program in glibc musl go; do
			echo $program; ./$program server.test.example server four.test.example six.test.example none.test.example
		done
		./glibc big; ./go big
		curl -s -4 http://server:8000/; curl -s http://four.test.example:8000/ --connect-to four.test.example:8000:server.test.example:8000`
	if err := os.WriteFile(filepath.Join(dir, "script"), []byte(script), 0o644); err != nil {
		t.Fatal(err)
	}
	want := ""
	for _, name := range []string{"glibc", "musl", "go"} {
		want += name + "\nserver.test.example 2 10.99.0.1\nserver 2 10.99.0.1\nfour.test.example 1 192.0.2.4\nsix.test.example 1 2001:db8::6\nnone.test.example not found\n"
	}
	want += "big 60 192.0.2.100\nbig 60 192.0.2.100\nfor server:8000\nfor four.test.example:8000\n"
	r := vm{
		args:   "netdev.ip=" + tapGuest4 + "/24:" + tapHost4 + ":" + tapHost4 + "::guest:test.example -- bash " + inside + "/script",
		script: []string{"-e", root}, timeout: 4 * time.Minute,
		qemu: []string{"-netdev", "tap,id=tap,ifname=tap0,script=no,downscript=no,vhost=off", "-device", "virtio-net-pci,netdev=tap,mac=" + tapMAC},
	}.run(t)
	if r.stdout != want || r.status != 0 {
		t.Errorf("wanted\n%s\n%v", want, r)
	}
}
