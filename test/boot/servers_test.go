package boot

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	// serversRoot is some 20 MB of packages.
	serversRoot = &debianRoot{name: "debian-servers", packages: "bash coreutils diffutils grep sed redis-server redis-tools nginx-light memcached curl socat iproute2 iputils-ping tcpdump"}
	// serversSoakRoot has what is larger.
	serversSoakRoot = &debianRoot{name: "debian-servers-soak", names: map[string]string{"php": "php8.2"},
		packages: serversRoot.packages + " apache2-utils wrk openssl iperf3 haproxy php-cli python3 nodejs net-tools procps"}
)

// serverScripts run servers and their clients in one VM. Each prints "ok" or what went wrong. Before them stands
// serverStart.
var serverScripts = []struct {
	name   string
	soak   bool
	mem    int
	script string
	want   []string
}{
	{"redis", false, 256, `
		redis-server --dir $PWD >log & waitfor 6379
		redis-benchmark -n 1000 -c 50 -t set,get --csv | cut -d, -f1
		redis-benchmark -n 3000 -c 50 -P 16 -t set,get --csv | cut -d, -f1
		redis-cli config set appendonly yes
		redis-cli bgsave >bgsave; for i in $(seq 100); do redis-cli info persistence | grep -q rdb_bgsave_in_progress:0 && break; sleep 0.1; done
		redis-cli set key value; redis-cli get key
		redis-cli info persistence | tr -d '\r' | grep -E '^(rdb_last_bgsave_status|aof_last_write_status)'
		redis-cli shutdown; wait; ls | tr '\n' ' '`,
		[]string{`"test"`, `"SET"`, `"GET"`, `"test"`, `"SET"`, `"GET"`, "OK", "OK", "value", "rdb_last_bgsave_status:ok", "aof_last_write_status:ok",
			"appendonlydir bgsave dump.rdb log "}},
	{"nginx", false, 256, `
		printf 'www-data:x:33:33::/:/bin/false\n' >>/etc/passwd
		head -c 1024 /dev/urandom >1k; head -c 102400 /dev/urandom >100k; head -c 5000000 /dev/urandom >5m
		mkdir -p /var/log/nginx /var/lib/nginx logs
		printf 'worker_processes 2; user root root; pid logs/pid; error_log logs/error; events { }\nhttp { sendfile on; tcp_nopush on; access_log off; server { listen 80; listen [::]:80; root %s; } }\n' $PWD >conf
		nginx -p $PWD -c $PWD/conf; waitfor 80
		for f in 1k 100k 5m; do for host in 127.0.0.1 [::1]; do
			curl -s -g http://$host/$f | cmp - $f && echo same
		done; done
		for i in $(seq 30); do curl -s http://127.0.0.1/100k http://127.0.0.1/1k | wc -c; done | sort | uniq -c | sed 's/^ *//'
		nginx -p $PWD -c $PWD/conf -s quit 2>/dev/null; for i in $(seq 1000); do [ -e logs/pid ] || break; sleep 0.1; done; [ -e logs/pid ] || echo ended`,
		[]string{"same", "same", "same", "same", "same", "same", "30 103424", "ended"}},
	{"memcached", false, 256, `
		memcached -u root -t 4 -l 127.0.0.1 & waitfor 11211
		for i in $(seq 20); do printf 'set k%d 0 0 5\r\nhello\r\nget k%d\r\nquit\r\n' $i $i | socat -t 60 - TCP:127.0.0.1:11211 | tr -d '\r' | tail -2 | head -1; done | sort | uniq -c | sed 's/^ *//'
		kill $!; wait $! && echo ended`,
		[]string{"20 hello", "ended"}},
	{"socat", false, 128, `
		socat -t 60 TCP6-LISTEN:90,fork,reuseaddr EXEC:'tr a-z A-Z' & waitfor 90
		for host in 127.0.0.1 '[::1]'; do printf hello | socat -t 60 - TCP:$host:90; echo; done
		socat -t 60 UNIX-LISTEN:s,fork PIPE & until [ -S s ]; do sleep 0.1; done
		printf local | socat -t 60 - UNIX-CONNECT:s; echo
		ping -q -c 2 -i 0.2 127.0.0.1 | grep -o '2 received'; ping -q -c 1 ::1 | grep -o '1 received'
		ip addr show lo | grep -c 'inet 127.0.0.1/8'; ip route get 127.0.0.1 | head -1; ss -Htln | grep -c :90
		ip addr add 10.1.2.3/24 dev lo && ping -q -c 1 10.1.2.3 | grep -o '1 received'; ip addr del 10.1.2.3/24 dev lo; ip -br addr show lo | grep -c 10.1.2.3`,
		[]string{"HELLO", "HELLO", "local", "2 received", "1 received", "1", "local 127.0.0.1 dev lo src 127.0.0.1 uid 0 ", "1", "1 received", "0"}},
	{"ip", false, 128, `
		exec 2>/dev/null
		ip addr add 10.1.2.3/24 brd + dev lo label lo:1; ip addr add 10.1.2.4/24 dev lo; ip -4 addr show lo | grep -v valid; ip route show table local | grep 10.1.2
		ip route add 10.20.0.0/16 dev lo src 10.1.2.3 metric 7; ip route add 10.20.0.0/16 dev lo metric 3; ip route add 10.20.0.0/16 dev lo metric 3 || echo there
		ip route change 10.21.0.0/16 dev lo || echo not there; ip route replace 10.21.0.0/16 dev lo mtu 1300; ip route add 10.22.0.0/16 via 10.99.0.1 || echo no way
		ip route add 10.23.0.0/16 dev lo table 77; ip route add unreachable 2001:db8:1::/48
		for r in 'blackhole 10.30' 'unreachable 10.31' 'prohibit 10.32' 'throw 10.33'; do ip route add $r.0.0/16; done
		ip route; ip route show table 77; ip -6 route | grep -v fe80; ip rule; ip route get 2001:db8:1::1
		for n in 20 21 30 31 32 33; do ip route get 10.$n.1.1; done
		for n in 30 32; do echo | socat - TCP:10.$n.1.1:9 2>&1 | grep -o 'AF=2 .*'; done
		ip route del 10.20.0.0/16; ip route del 10.20.0.0/16 metric 9; ip route del unreachable 10.30.0.0/16; ip route del 10.31.0.0/16; ip route get 10.31.1.1
		ip addr del 10.1.2.4/16 dev lo || echo no such prefix; ip addr del 10.1.2.3/24 dev lo; ip route; ip -4 -br addr show lo; ip -s link show lo | grep -c packets; ip -6 addr show lo | grep ::1`,
		[]string{
			"1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN group default qlen 1000", "    inet 127.0.0.1/8 scope host lo",
			"    inet 10.1.2.3/24 brd 10.1.2.255 scope global lo:1", "    inet 10.1.2.4/24 scope global secondary lo",
			"local 10.1.2.0/24 dev lo proto kernel scope host src 10.1.2.3 ", "local 10.1.2.3 dev lo proto kernel scope host src 10.1.2.3 ",
			"local 10.1.2.4 dev lo proto kernel scope host src 10.1.2.3 ", "broadcast 10.1.2.255 dev lo proto kernel scope link src 10.1.2.3 ",
			"there", "not there", "no way",
			"10.20.0.0/16 dev lo scope link metric 3 ", "10.20.0.0/16 dev lo scope link src 10.1.2.3 metric 7 ", "10.21.0.0/16 dev lo scope link mtu 1300 ",
			"blackhole 10.30.0.0/16 ", "unreachable 10.31.0.0/16 ", "prohibit 10.32.0.0/16 ", "throw 10.33.0.0/16 ", "10.23.0.0/16 dev lo scope link ",
			"unreachable 2001:db8:1::/48 dev lo metric 1024 pref medium",
			"0:\tfrom all lookup local", "32766:\tfrom all lookup main", "32767:\tfrom all lookup default",
			"10.20.1.1 dev lo src 10.1.2.3 uid 0 ", "    cache <local> ", "10.21.1.1 dev lo src 10.1.2.3 uid 0 ", "    cache <local> mtu 1300 ",
			"AF=2 10.30.1.1:9, 16): Invalid argument", "AF=2 10.32.1.1:9, 16): Permission denied", "no such prefix",
			"10.21.0.0/16 dev lo scope link mtu 1300 ", "blackhole 10.30.0.0/16 ", "prohibit 10.32.0.0/16 ", "throw 10.33.0.0/16 ",
			"lo               UNKNOWN        127.0.0.1/8 ", "2", "    inet6 ::1/128 scope host ",
		}},
	{"tcpdump", false, 256, `
		tcpdump -i lo -n -U -w seen -Z root udp port 9999 2>said & for i in $(seq 600); do grep -q listening said && break; sleep 0.1; done
		for i in 1 2 3; do printf "datagram $i" | socat - UDP:127.0.0.1:9998; printf "datagram $i" | socat - UDP:127.0.0.1:9999; done 2>/dev/null
		for i in $(seq 600); do [ $(tcpdump -Z root -n -r seen 2>/dev/null | grep -c 'UDP, length 10') -ge 3 ] && break; sleep 0.1; done
		kill %1; wait; grep -E 'dropped by kernel' said; tcpdump -Z root -n -A -r seen 2>/dev/null | grep -o 'datagram .' | sort | uniq -c | sed 's/^ *//'`,
		[]string{"0 packets dropped by kernel", "1 datagram 1", "1 datagram 2", "1 datagram 3"}},
	{"redis-long", true, 512, `
		redis-server --dir $PWD --appendonly yes >log & waitfor 6379
		for p in 1 16; do redis-benchmark -n 200000 -c 50 -P $p -t set,get --csv | cut -d, -f1; redis-cli bgsave >/dev/null; done
		redis-cli shutdown; wait`,
		[]string{`"test"`, `"SET"`, `"GET"`, `"test"`, `"SET"`, `"GET"`}},
	{"nginx-long", true, 512, `
		for f in 1k:1024 100k:102400 100m:104857600; do head -c ${f#*:} /dev/urandom >${f%:*}; done
		printf 'www-data:x:33:33::/:/bin/false\n' >>/etc/passwd; mkdir -p /var/log/nginx /var/lib/nginx logs
		printf 'worker_processes 2; user root root; pid logs/pid; error_log logs/error; events { }\nhttp { sendfile on; access_log off; server { listen 80; root %s; } }\n' $PWD >conf
		nginx -p $PWD -c $PWD/conf; waitfor 80
		for f in 1k 100k 100m; do curl -s http://127.0.0.1/$f | cmp - $f && echo same; done
		ab -q -n 2000 -c 200 http://127.0.0.1/1k | grep -E '^(Complete|Failed) requests'
		ab -q -k -n 2000 -c 200 http://127.0.0.1/100k | grep -E '^(Complete|Failed) requests'
		wrk -t2 -c200 -d10s http://127.0.0.1:80/1k | grep -c -E 'Socket errors|Non-2xx'
		nginx -p $PWD -c $PWD/conf -s quit 2>/dev/null`,
		[]string{"same", "same", "same", "Complete requests:      2000", "Failed requests:        0", "Complete requests:      2000", "Failed requests:        0", "0"}},
	{"languages", true, 512, `
		head -c 3000000 /dev/urandom >file; echo '<?php echo "php ", 6*7, "\n";' >i.php
		python3 -m http.server 8000 >/dev/null 2>&1 & waitfor 8000; curl -s http://127.0.0.1:8000/file | cmp - file && echo python
		php -S 127.0.0.1:8001 >/dev/null 2>&1 & waitfor 8001; curl -s http://127.0.0.1:8001/i.php
		node -e "require('http').createServer((q, r) => r.end('node\n')).listen(8002, '127.0.0.1')" & waitfor 8002
		for i in $(seq 5); do curl -s http://127.0.0.1:8002/; done | uniq -c | sed 's/^ *//'
		printf 'defaults\n mode http\n timeout connect 90s\n timeout client 90s\n timeout server 90s\nfrontend f\n bind 127.0.0.1:8003\n default_backend b\nbackend b\n server s 127.0.0.1:8000\n' >h
		haproxy -f h -db >/dev/null 2>&1 & waitfor 8003; curl -s http://127.0.0.1:8003/file | cmp - file && echo haproxy
		openssl req -x509 -newkey rsa:2048 -nodes -keyout k -out c -subj /CN=x 2>/dev/null
		openssl s_server -accept 8004 -cert c -key k -www -quiet >/dev/null 2>&1 & waitfor 8004
		curl -sk https://127.0.0.1:8004/ | grep -c 'Ciphers supported'; openssl s_client -connect 127.0.0.1:8004 </dev/null 2>/dev/null | grep -c 'BEGIN CERT'
		export TMPDIR=/dev/shm; for how in '' -R '-u -b 10M'; do
			iperf3 -s -1 >/dev/null 2>&1 & waitlisten 5201; iperf3 -c 127.0.0.1 -t 2 $how | grep -c receiver
		done; kill $(jobs -p) 2>/dev/null`,
		[]string{"python", "php 42", "5 node", "haproxy", "1", "1", "1", "1", "1"}},
}

const serverStart = `
cd "$1"
waitfor() { for i in $(seq 1500); do (exec 3<>/dev/tcp/127.0.0.1/$1) 2>/dev/null && return; sleep 0.1; done; echo "nothing listens at $1"; }
waitlisten() { for i in $(seq 1500); do ss -Htln | grep -q ":$1 " && return; sleep 0.1; done; echo "nothing listens at $1"; }
`

// TestServers runs Debian's servers, as they are packaged, and clients in the same VM.
func TestServers(t *testing.T) {
	for _, row := range serverScripts {
		if row.soak && !soak {
			continue
		}
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			where := serversRoot
			if row.soak {
				where = serversSoakRoot
			}
			root := where.dir(t)
			dir, err := os.MkdirTemp(filepath.Join(root, "tmp"), row.name)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			inside := "/tmp/" + filepath.Base(dir)
			if err := os.WriteFile(dir+".sh", []byte(serverStart+row.script), 0o644); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.Remove(dir + ".sh") })
			timeout := 5 * time.Minute
			if row.soak {
				timeout = 30 * time.Minute
			}
			r := vm{args: "bash " + inside + ".sh " + inside, mem: row.mem, script: []string{"-e", root}, timeout: timeout}.run(t)
			var got []string
			for line := range strings.Lines(r.stdout) {
				got = append(got, strings.TrimSuffix(line, "\n"))
			}
			if strings.Join(got, "\n") != strings.Join(row.want, "\n") || strings.Contains(r.stderr, "goroutine ") {
				t.Errorf("wanted\n%s\n%v", strings.Join(row.want, "\n"), r)
			}
		})
	}
}

// TestServedHost has nginx serve the host, clients one after the other (QEMU's network holds one at a time
// for a server to accept), and curl fetch from a server on the host.
func TestServedHost(t *testing.T) {
	t.Parallel()
	root := serversRoot.dir(t)
	body := strings.Repeat("what the host serves\n", 10000)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) })}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	dir, err := os.MkdirTemp(filepath.Join(root, "tmp"), "host")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	inside := "/tmp/" + filepath.Base(dir)
	content := strings.Repeat("what the guest serves\n", 5000)
	for name, text := range map[string]string{
		"file": content,
		"conf": "user root root; pid pid; error_log error; events { }\nhttp { access_log off; server { listen 80; root " + inside + "; } }\n",
		"script": fmt.Sprintf("cd %s; mkdir -p /var/log/nginx /var/lib/nginx; curl -s http://10.0.2.2:%d/ >fetched; nginx -p $PWD -c $PWD/conf; "+
			"for i in $(seq 1200); do [ -e stop ] && break; sleep 0.1; done; nginx -p $PWD -c $PWD/conf -s stop\n", inside, l.Addr().(*net.TCPAddr).Port),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	port := freePort(t)
	v := vm{args: "bash " + inside + "/script", script: []string{"-e", root, "-N", fmt.Sprintf("%d:80", port)}, timeout: 4 * time.Minute}
	ended := make(chan result, 1)
	go func() { ended <- v.run(t) }()
	var all sync.WaitGroup
	paced := make(chan struct{}, 1)
	for range 10 {
		all.Go(func() {
			paced <- struct{}{}
			defer func() { <-paced }()
			if got := fetch(t, fmt.Sprintf("http://127.0.0.1:%d/file", port)); got != content {
				t.Errorf("%d bytes, which are not the file", len(got))
			}
		})
	}
	all.Wait()
	if err := os.WriteFile(filepath.Join(dir, "stop"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r := <-ended
	if got, err := os.ReadFile(filepath.Join(dir, "fetched")); string(got) != body {
		t.Errorf("curl fetched %d bytes from the host, %v\n%v", len(got), err, r)
	}
	if r.status != 0 || strings.Contains(r.stderr, "goroutine ") {
		t.Errorf("the server: %v", r)
	}
}
