package boot

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

// onShare lists programs that check themselves in a folder of the host's: on the host first, then with that
// folder as the root file system of a VM.
var onShare = []struct {
	program string
	kind    kind
	mem     int
	timeout time.Duration
}{
	{"pressure", staticPIE, 40, 3 * time.Minute},
}

func TestShare(t *testing.T) {
	for _, row := range onShare {
		t.Run(row.program, func(t *testing.T) {
			t.Parallel()
			program := build(t, row.kind, row.program)
			cmd := exec.Command(program)
			cmd.Dir = t.TempDir()
			onHost, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("fails on the host's Linux already: %v\n%s", err, onHost)
			}
			dir := t.TempDir()
			r := vm{program: program, mem: row.mem, script: []string{"-e", dir}, timeout: row.timeout}.run(t)
			if r.status != 0 || r.stdout != string(onHost) || r.stderr != "" {
				t.Errorf("wanted what Linux gives, status 0 and no log\n%v", r)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
				t.Errorf("on the host are left %v, %v", left, err)
			}
		})
	}
}
