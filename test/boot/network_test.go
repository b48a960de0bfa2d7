package boot

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestNetwork fetches from a small server in the VM, through a port that the script forwards.
func TestNetwork(t *testing.T) {
	for _, row := range []struct{ name, parameters string }{
		{"dhcp", ""},
		{"static", "netdev.ip=10.0.2.15/24:10.0.2.2 "},
	} {
		t.Run(row.name, func(t *testing.T) {
			port := freePort(t)
			sizes := []int{10, 1000, 100_000, 3_000_000}
			v := vm{
				program: build(t, staticPIE, "httpd"),
				args:    fmt.Sprintf("%s-- httpd 80", row.parameters),
				mem:     128, script: []string{"-N", fmt.Sprintf("%d:80", port)}, timeout: 2 * time.Minute,
			}
			ended := make(chan result, 1)
			go func() { ended <- v.run(t) }()
			for _, size := range sizes {
				body := fetch(t, fmt.Sprintf("http://127.0.0.1:%d/%d", port, size))
				if want := strings.Repeat("abcdefghijklmnopqrstuvwxyz", size/26+1)[:size]; body != want {
					t.Errorf("GET /%d: %d bytes, which are not the server's", size, len(body))
				}
			}
			fetch(t, fmt.Sprintf("http://127.0.0.1:%d/quit", port))
			if r := <-ended; r.status != 0 {
				t.Errorf("the server: %v", r)
			}
		})
	}
}

// TestSearchList has DHCP bring the domains that names are looked up in.
func TestSearchList(t *testing.T) {
	t.Parallel()
	r := vm{
		program: build(t, staticPIE, "show"), args: "/etc/resolv.conf", mem: 64,
		qemu: []string{"-netdev", "user,id=net,dnssearch=eng.example.com,dnssearch=lab.example.com", "-device", "virtio-net-pci,netdev=net"},
	}.run(t)
	if want := "search eng.example.com lab.example.com\nnameserver 10.0.2.3\n"; r.stdout != want || r.status != 0 || r.stderr != "" {
		t.Errorf("wanted %q\n%v", want, r)
	}
}

// fetch gets a page, from when the server is there.
func fetch(t *testing.T, url string) string {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	var failure error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		r, err := client.Get(url)
		if err != nil { // QEMU accepts before the server does, and hangs up
			failure = err
			time.Sleep(300 * time.Millisecond)
			continue
		}
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil {
			t.Errorf("GET %s: %v after %d bytes", url, err, len(body))
		}
		return string(body)
	}
	t.Fatalf("nothing is to be had: %v", failure)
	return ""
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
