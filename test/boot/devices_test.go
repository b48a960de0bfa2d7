package boot

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// machines are those whose virtio devices stand on PCI and in memory.
var machines = []struct{ name, bus string }{{"x86pc", "pci"}, {"microvm", "device"}}

// TestRandomDevice: the host's random numbers, as they are and in the pool.
func TestRandomDevice(t *testing.T) {
	t.Parallel()
	for _, m := range machines {
		t.Run(m.name, func(t *testing.T) {
			r := vm{
				program: busybox(t), args: "busybox sh", mem: 64, script: []string{"-r", "-t", m.name},
				stdin: "set -e\nls -l /dev/hwrng | cut -c1-10\nhead -c 3000 /dev/hwrng | wc -c\nhead -c 32 /dev/hwrng | md5sum >/a\nhead -c 32 /dev/hwrng | md5sum >/b\n! cmp -s /a /b\n! echo x 2>/dev/null >/dev/hwrng\nhead -c 9 /dev/random | wc -c\n",
				qemu:  []string{"-cpu", "qemu64"}, // which has no random numbers of its own
			}.run(t)
			if r.status != 0 || r.stdout != "crw-------\n3000\n9\n" || r.stderr != "" {
				t.Errorf("%v", r)
			}
		})
	}
	r := vm{program: busybox(t), args: "busybox test ! -e /dev/hwrng", mem: 64}.run(t)
	if r.status != 0 {
		t.Errorf("without the device: %v", r)
	}
}

// TestLogConsole: a console of virtio's takes the log, and the serial line is the program's.
func TestLogConsole(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		qemu []string
		log  bool
	}{
		{"pci", []string{"-device", "virtio-serial-pci", "-device", "virtconsole,chardev=log"}, true},
		{"memory", []string{"-machine", "microvm", "-device", "virtio-serial-device", "-device", "virtconsole,chardev=log"}, true},
		{"one port", []string{"-device", "virtio-serial-pci,max_ports=1", "-device", "virtconsole,chardev=log"}, true},
		// A port that is no console is not the log's.
		{"other port", []string{"-device", "virtio-serial-pci", "-device", "virtserialport,chardev=log"}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			r := vm{
				program: busybox(t), args: "elver.strace=1 -- busybox echo hello", mem: 64, raw: true,
				qemu: append([]string{"-smp", "1,maxcpus=2", "-nodefaults", "-chardev", "file,id=log,path=" + path}, row.qemu...),
			}.run(t)
			log, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			const call = "exit_group(0)"
			if has := strings.Contains(string(log), call); has != row.log || strings.Contains(r.stdout, call) == row.log {
				t.Errorf("the log:\n%s\n%v", clip(string(log)), r)
			}
			if row.log && strings.ReplaceAll(r.stdout, "\r", "") != "hello\n" {
				t.Errorf("%v", r)
			}
		})
	}
}

// TestBalloon: the host borrows memory and gives it back, and the program gets what it needs.
func TestBalloon(t *testing.T) {
	t.Parallel()
	for _, m := range machines {
		t.Run(m.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "monitor")
			cmd, in, lines := started(t, script, "-W", "-k", kernelImage, "-i", busybox(t), "-a", "busybox sh", "-m", "256", "-l", "-t", m.name,
				"--", "-chardev", "socket,id=balloon,path="+path+",server=on,wait=off", "-mon", "balloon")
			order := func(command, want string) {
				t.Helper()
				io.WriteString(in, command+"\n")
				if got, err := lines.ReadString('\n'); got != want+"\n" || err != nil {
					t.Fatalf("%s: got %q, %v", command, got, err)
				}
			}
			order("echo ready", "ready")
			monitor, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer monitor.Close()
			go io.Copy(io.Discard, monitor)
			const total = "$(awk '/MemTotal/{print int($2/1024)}' /proc/meminfo)"
			until := func(condition string) {
				t.Helper()
				order("until [ "+total+" "+condition+" ]; do sleep 0.1; done; echo yes", "yes")
			}
			fmt.Fprintln(monitor, "balloon 100")
			until("-lt 100")
			fmt.Fprintln(monitor, "balloon 200")
			until("-gt 150")
			// More than there is to be had; then the program wants some.
			fmt.Fprintln(monitor, "balloon 1")
			until("-lt 50")
			order("dd if=/dev/zero of=/x bs=1M count=60 2>/dev/null; echo $?", "0")
			order("head -c 9999999 /dev/zero | tail -c 9999999 | wc -c; rm /x", "9999999")
			fmt.Fprintln(monitor, "balloon 256")
			until("-gt 200")
			in.Close()
			io.Copy(io.Discard, lines)
			if cmd.Wait(); cmd.ProcessState.ExitCode() != 0 {
				t.Errorf("status %d", cmd.ProcessState.ExitCode())
			}
		})
	}
}
