package boot

import (
	"fmt"
	"testing"
)

const hello = "Hello world!\n"

// TestHello boots the hello of every kind on every machine by the plain command
// line: exactly its output, and the machine powers off.
func TestHello(t *testing.T) {
	rows := []struct {
		kind kind
		mem  int
		qemu []string
	}{
		{staticPIE, 32, []string{"-cpu", "max"}},
		{staticExe, 32, []string{"-cpu", "max"}},
		{musl, 32, []string{"-cpu", "max"}},
		{rust, 32, []string{"-cpu", "max"}},
		{tiny, 32, []string{"-cpu", "max"}},
		{staticPIE, 32, []string{"-cpu", "qemu64"}},
		{staticExe, 32, []string{"-cpu", "qemu64"}},
		{rust, 32, []string{"-cpu", "qemu64"}},
		{staticPIE, 32, []string{"-cpu", "Haswell,-x2apic"}},
		{staticPIE, 32, []string{"-cpu", "max,-smap,-smep,-umip"}},
		{staticPIE, 32, []string{"-cpu", "max,-xsave"}},
		{staticPIE, 32, []string{"-cpu", "max,-rdrand,-fsgsbase"}},
		{staticPIE, 32, []string{"-M", "q35", "-cpu", "max"}},
		{staticPIE, 32, []string{"-M", "microvm", "-cpu", "max"}},
		{staticExe, 32, []string{"-M", "microvm", "-cpu", "qemu64"}},
		{staticPIE, 32, []string{"-M", "q35", "-cpu", "qemu64", "-smp", "4"}},
		{staticPIE, 32, []string{"-M", "microvm", "-cpu", "max", "-smp", "4"}},
		{staticPIE, 32, []string{"-cpu", "max", "-smp", "4"}},
		{staticPIE, 32, []string{"-cpu", "max", "-smp", "1,maxcpus=2"}},
		{staticPIE, 24, []string{"-cpu", "max"}},
		{staticPIE, 24, []string{"-M", "q35", "-cpu", "max"}},
		{staticPIE, 24, []string{"-M", "microvm", "-cpu", "max"}},
		{staticPIE, 64, []string{"-cpu", "max"}},
		{staticPIE, 128, []string{"-cpu", "max"}},
		{staticPIE, 1024, []string{"-cpu", "max"}},
		{staticPIE, 2048, []string{"-M", "q35", "-cpu", "max"}},
		{staticPIE, 3072, []string{"-cpu", "max"}},
		{staticPIE, 3584, []string{"-cpu", "max"}},
		{staticPIE, 4096, []string{"-cpu", "max"}},
		{staticPIE, 6144, []string{"-cpu", "max"}},
		{staticPIE, 6144, []string{"-M", "q35", "-cpu", "max"}},
		{staticPIE, 6144, []string{"-M", "microvm", "-cpu", "max"}},
	}
	for _, row := range rows {
		t.Run(fmt.Sprintf("%s/%dM/%v", row.kind, row.mem, row.qemu), func(t *testing.T) {
			t.Parallel()
			program := build(t, row.kind, "helloworld")
			r := vm{program: program, raw: true, mem: row.mem, qemu: row.qemu}.run(t)
			if r.stdout != hello || r.status != 0 {
				t.Errorf("wanted exactly %q and status 0\n%v", hello, r)
			}
		})
	}
}

// TestHelloScript boots it through the script, in the spellings that the
// reference page has.
func TestHelloScript(t *testing.T) {
	for _, options := range [][]string{
		{}, {"-t", "x86q35"}, {"-t", "microvm"}, {"-c", "4"}, {"-s", "2", "-c", "2"}, {"-m", "24"},
	} {
		t.Run(fmt.Sprint(options), func(t *testing.T) {
			t.Parallel()
			r := vm{program: build(t, staticPIE, "helloworld"), script: options}.run(t)
			if r.stdout != hello || r.stderr != "" || r.status != 0 {
				t.Errorf("wanted exactly %q, no log and status 0\n%v", hello, r)
			}
		})
	}
	t.Run("long options", func(t *testing.T) {
		t.Parallel()
		r := execute(patience, "", []string{script, "-W", "-kernel", kernelImage, "-initrd", build(t, staticPIE, "helloworld")})
		if r.stdout != hello || r.status != 0 {
			t.Errorf("wanted exactly %q and status 0\n%v", hello, r)
		}
	})
}

// TestSmallest finds the smallest memory that runs hello: the README's claim.
func TestSmallest(t *testing.T) {
	t.Parallel()
	program := build(t, staticPIE, "helloworld")
	smallest := 0
	for _, mem := range []int{24, 22, 20, 18, 16, 14, 12, 10, 8} {
		r := vm{program: program, mem: mem}.run(t)
		if r.stdout != hello || r.status != 0 {
			break
		}
		smallest = mem
	}
	if smallest == 0 {
		t.Fatal("hello doesn't run in 24 MB")
	}
	t.Logf("the smallest -m that runs hello is %d", smallest)
}

// TestManyBoots boots again and again: what happens once in many times happens
// here. Addresses and the instants of interrupts differ each time.
func TestManyBoots(t *testing.T) {
	t.Parallel()
	boots := 20
	if soak {
		boots = 2000
	}
	program := build(t, staticPIE, "helloworld")
	for i := range boots {
		r := vm{program: program, mem: 32}.run(t)
		if r.stdout != hello || r.stderr != "" || r.status != 0 {
			t.Fatalf("boot %d of %d\n%v", i+1, boots, r)
		}
	}
}
