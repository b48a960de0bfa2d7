package boot

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// servedOnTap starts the servers, waits until redis is shut down and ends the others.
const servedOnTap = serverStart + `
printf 'www-data:x:33:33::/:/bin/false\n' >>/etc/passwd
mkdir -p /var/log/nginx /var/lib/nginx logs data
printf 'worker_processes 2; user root root; pid logs/pid; error_log logs/error; events { }\nhttp { sendfile on; access_log off; server { listen 80 backlog=512; listen [::]:80 backlog=512; root %s; } }\n' $PWD >conf
nginx -p $PWD -c $PWD/conf
memcached -u root -t 4 -l 0.0.0.0,:: & cached=$!
others=
if type node >/dev/null 2>&1; then
	python3 -m http.server --bind :: 8000 >/dev/null 2>&1 & others=$!
	node -e "require('http').createServer((q, r) => r.end('node\n')).listen(8002, '::')" & others="$others $!"
	iperf3 -s >/dev/null 2>&1 & others="$others $!"
fi
for host in $2; do
	if type openssl >/dev/null 2>&1; then openssl s_client -connect $host:443 </dev/null 2>/dev/null | grep -c 'BEGIN CERT'; fi >>certificates
	for i in $(seq 300); do curl -s -g http://$host:81/ >fetched && break; sleep 0.2; done; cat fetched
done
redis-server --bind 0.0.0.0 :: --protected-mode no --dir $PWD/data --appendonly yes --save 60 1 >log
sort -u certificates
nginx -p $PWD -c $PWD/conf -s quit 2>/dev/null
kill $cached $others; wait; echo ended
`

// TestServersOnTap has Debian's servers, as they are packaged, serve clients of the host's through the card, by IPv4
// and IPv6: redis with what it writes to disk, nginx with files of the host's, memcached. The soak test has more
// requests, more servers, and ten boots in a row.
func TestServersOnTap(t *testing.T) {
	where, boots, requests := serversRoot, 1, 1000
	if soak {
		where, boots, requests = serversSoakRoot, 10, 10_000
	}
	root := where.dir(t) // before there is a network of its own, out of which nothing can be fetched
	if !inNamespace(t) {
		return
	}
	advertise(t)
	for _, host := range []string{tapHost4, tapHost6} {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "81"))
		if err != nil {
			t.Fatal(err)
		}
		says := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "the host by", host) })
		go http.Serve(l, says)
		if l, err = net.Listen("tcp", net.JoinHostPort(host, "443")); err != nil {
			t.Fatal(err)
		}
		secure := httptest.NewUnstartedServer(says)
		secure.Listener = l
		secure.StartTLS()
		t.Cleanup(secure.Close)
	}
	for boot := range boots {
		s := startServers(t, root)
		for _, guest := range []string{tapGuest4, tapGuest6} {
			s.redis(t, guest, requests)
			s.nginx(t, guest)
			s.memcached(t, guest)
		}
		if soak && boot == 0 {
			s.redis(t, tapGuest4, 100_000)
			for _, guest := range []string{tapGuest4, tapGuest6} {
				s.more(t, guest)
			}
		}
		s.end(t)
		if t.Failed() {
			return
		}
	}
}

// servers is a VM with servers in it.
type servers struct {
	root, dir string // Debian's programs; the servers' folder there
	ended     chan result
}

func startServers(t *testing.T, root string) *servers {
	t.Helper()
	dir, err := os.MkdirTemp(filepath.Join(root, "tmp"), "tap")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	sizes := map[string]int{"1k": 1 << 10, "100k": 100 << 10}
	if soak {
		sizes["100m"] = 100 << 20
	}
	for name, size := range sizes {
		data := make([]byte, size)
		rand.Read(data)
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "script"), []byte(servedOnTap), 0o644); err != nil {
		t.Fatal(err)
	}
	s := &servers{root, dir, make(chan result, 1)}
	inside := "/tmp/" + filepath.Base(dir)
	v := vm{
		script: []string{"-e", root}, mem: 512, timeout: 20 * time.Minute,
		args: "netdev.ip=" + tapGuest4 + "/24:" + tapHost4 + " -- bash " + inside + "/script " + inside + " '" + tapHost4 + " [" + tapHost6 + "]'",
		qemu: []string{"-netdev", "tap,id=tap,ifname=tap0,script=no,downscript=no,vhost=off", "-device", "virtio-net-pci,netdev=tap,mac=" + tapMAC},
	}
	go func() { s.ended <- v.run(t) }()
	for _, guest := range []string{tapGuest4, tapGuest6} {
		s.await(t, net.JoinHostPort(guest, "6379"))
	}
	return s
}

// await waits until somebody serves at an address.
func (s *servers) await(t *testing.T, address string) {
	t.Helper()
	for over := time.Now().Add(patience); ; {
		c, err := net.DialTimeout("tcp", address, 5*time.Second)
		if err == nil {
			c.Close()
			return
		}
		select {
		case r := <-s.ended:
			t.Fatalf("the servers are gone\n%v", r)
		case <-time.After(200 * time.Millisecond):
		}
		if time.Now().After(over) {
			t.Fatalf("nobody serves at %s: %v", address, err)
		}
	}
}

// client runs one of Debian's programs on the host.
func (s *servers) client(t *testing.T, words ...string) string {
	t.Helper()
	r := execute(10*time.Minute, "", append([]string{"chroot", s.root}, words...))
	if r.status != 0 {
		t.Errorf("%q: %v", words, r)
	}
	return r.stdout
}

func (s *servers) redis(t *testing.T, guest string, requests int) {
	for _, pipeline := range []string{"1", "16"} {
		got := s.client(t, "redis-benchmark", "-h", guest, "-c", "50", "-n", fmt.Sprint(requests), "-P", pipeline, "-t", "set,get", "--csv")
		if !strings.Contains(got, `"SET"`) || !strings.Contains(got, `"GET"`) || strings.Contains(got, "rror") {
			t.Errorf("redis-benchmark with %s at a time: %s", pipeline, got)
		}
	}
	s.client(t, "redis-cli", "-h", guest, "set", "key", "value")
	s.client(t, "redis-cli", "-h", guest, "bgsave")
	s.client(t, "redis-cli", "-h", guest, "bgrewriteaof") // now, or after the former
	var info string
	for over := time.Now().Add(patience); time.Now().Before(over); time.Sleep(200 * time.Millisecond) {
		info = strings.ReplaceAll(s.client(t, "redis-cli", "-h", guest, "info", "persistence"), "\r", "")
		if t.Failed() || !strings.Contains(info, "in_progress:1") && !strings.Contains(info, "scheduled:1") {
			break
		}
	}
	for _, want := range []string{"\nrdb_bgsave_in_progress:0\n", "\nrdb_last_bgsave_status:ok\n", "\naof_last_bgrewrite_status:ok\n", "\naof_last_write_status:ok\n"} {
		if !strings.Contains(info, want) {
			t.Errorf("redis's files: no line %q in %s", strings.TrimSpace(want), info)
		}
	}
	if got := s.client(t, "redis-cli", "-h", guest, "get", "key"); got != "value\n" {
		t.Errorf("get key: %q", got)
	}
}

// url is that of a file that the guest serves.
func url(guest, port, file string) string {
	return "http://" + net.JoinHostPort(guest, port) + "/" + file
}

// fetch fetches a file of the servers' folder and compares it with what the host has there.
func (s *servers) fetch(t *testing.T, from, file string) {
	t.Helper()
	want, err := os.ReadFile(filepath.Join(s.dir, file))
	if err != nil {
		t.Fatal(err)
	}
	if got := s.client(t, "curl", "-s", "-g", from); got != string(want) {
		t.Errorf("%s: %d bytes came of %d, or changed ones", from, len(got), len(want))
	}
}

func (s *servers) nginx(t *testing.T, guest string) {
	for _, file := range []string{"1k", "100k"} {
		s.fetch(t, url(guest, "80", file), file)
	}
}

// memcached has fifty clients at once keep a value each.
func (s *servers) memcached(t *testing.T, guest string) {
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			c, err := net.DialTimeout("tcp", net.JoinHostPort(guest, "11211"), patience)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(patience))
			lines := bufio.NewScanner(c)
			for n := range 5 {
				fmt.Fprintf(c, "set k%d 0 0 5\r\n%05d\r\nget k%d\r\n", i, i*n, i)
				for _, want := range []string{"STORED", fmt.Sprintf("VALUE k%d 0 5", i), fmt.Sprintf("%05d", i*n), "END"} {
					if !lines.Scan() || lines.Text() != want {
						t.Errorf("memcached says %q for %q: %v", lines.Text(), want, lines.Err())
						return
					}
				}
			}
		})
	}
	all.Wait()
}

// more is what the soak test asks for: hundreds of clients, large files, other servers.
func (s *servers) more(t *testing.T, guest string) {
	host := guest
	if strings.Contains(guest, ":") {
		host = "[" + guest + "]"
	}
	for _, file := range []string{"1k", "100k"} {
		for _, alive := range [][]string{nil, {"-k"}} {
			got := s.client(t, append(append([]string{"ab", "-q", "-c", "200", "-n", "4000"}, alive...), "http://"+host+":80/"+file)...)
			for _, want := range []string{"Complete requests:      4000\n", "Failed requests:        0\n"} {
				if !strings.Contains(got, want) {
					t.Errorf("ab: no line %q in %s", want, got)
				}
			}
		}
	}
	if got := s.client(t, "wrk", "-c", "200", "-d", "5", "--timeout", "60", "http://"+host+":80/1k"); strings.Contains(got, "Socket errors") || strings.Contains(got, "Non-2xx") {
		t.Errorf("wrk: %s", got)
	}
	s.fetch(t, url(guest, "80", "100m"), "100m")
	s.await(t, net.JoinHostPort(guest, "8000"))
	s.fetch(t, url(guest, "8000", "100k"), "100k")
	s.await(t, net.JoinHostPort(guest, "8002"))
	for range 20 {
		if got := s.client(t, "curl", "-s", "-g", url(guest, "8002", "")); got != "node\n" {
			t.Errorf("node says %q", got)
		}
	}
	os.MkdirAll(filepath.Join(s.root, "dev"), 0o755)
	if err := syscall.Mknod(filepath.Join(s.root, "dev/urandom"), syscall.S_IFCHR|0o666, 1<<8|9); err != nil && err != syscall.EEXIST {
		t.Fatal(err) // iperf3 asks it
	}
	for _, how := range [][]string{nil, {"-R"}, {"-u", "-b", "10M"}} {
		words := append([]string{"chroot", s.root, "env", "TMPDIR=/tmp", "iperf3", "-c", guest, "-t", "3"}, how...)
		var r result
		for over := time.Now().Add(patience); time.Now().Before(over); time.Sleep(200 * time.Millisecond) {
			// Between two tests its server doesn't listen for a moment.
			if r = execute(patience, "", words); !strings.Contains(r.stderr, "refused") && !strings.Contains(r.stderr, "busy") {
				break
			}
		}
		if r.status != 0 || !strings.Contains(r.stdout, "receiver") {
			t.Errorf("iperf3 %v: %v", how, r)
		}
	}
}

// end has the servers end.
func (s *servers) end(t *testing.T) {
	t.Helper()
	execute(patience, "", []string{"chroot", s.root, "redis-cli", "-h", tapGuest4, "shutdown"})
	r := <-s.ended
	want := "the host by " + tapHost4 + "\nthe host by " + tapHost6 + "\n"
	if soak {
		want += "1\n" // one certificate of each
	}
	want += "ended\n"
	if r.stdout != want || r.status != 0 || strings.Contains(r.stderr, "goroutine ") {
		t.Errorf("wanted %q, status 0\n%v", want, r)
	}
}
