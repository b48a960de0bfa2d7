package procfs

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/kernel/sysv"
	"elver/vfs"
)

// addSysV adds what there is of System V's interprocess communication, and its limits (sysvipc(7)).
func addSysV(top, kern *dir) {
	ipc, m := top.sub("sysvipc"), &sysv.Machine
	ipc.file("shm", func(*vfs.Context) string { return m.Memory.Proc() })
	ipc.file("sem", func(*vfs.Context) string { return m.Semaphores.Proc() })
	ipc.file("msg", func(*vfs.Context) string { return m.Messages.Proc() })

	kern.numbers("sem", 4, func() []int {
		l := m.Semaphores.Limits()
		return l[:]
	}, func(v []int) error { return m.Semaphores.SetLimits([4]int(v)) })
	for i, name := range [...]string{"msgmax", "msgmnb", "msgmni"} {
		kern.numbers(name, 1, func() []int { return []int{m.Messages.Limit(i)} }, func(v []int) error { return m.Messages.SetLimit(i, v[0]) })
	}
}

// numbers adds a file with n numbers in a line. Who writes fewer leaves the others as they are.
func (d *dir) numbers(name string, n int, get func() []int, set func([]int) error) {
	d.file(name, func(*vfs.Context) string {
		return strings.ReplaceAll(strings.Trim(fmt.Sprint(get()), "[]"), " ", "\t") + "\n"
	}).writable(func(c *vfs.Context, text string) error {
		values, fields := get(), strings.Fields(text)
		if len(fields) == 0 || len(fields) > n {
			return unix.EINVAL
		}
		for i, f := range fields {
			v, err := strconv.ParseInt(f, 10, 32)
			if err != nil {
				return unix.EINVAL
			}
			values[i] = int(v)
		}
		return set(values)
	})
}

// addCore adds how core files are named (core(5)).
func addCore(kern *dir, k *kernel.Kernel) {
	if k == nil {
		return
	}
	kern.file("core_pattern", func(*vfs.Context) string { return k.CorePattern() + "\n" }).writable(func(c *vfs.Context, text string) error {
		if !c.Creds.HasCap(unix.CAP_SYS_ADMIN) {
			return unix.EPERM
		}
		text, _, _ = strings.Cut(text, "\n")
		return k.SetCorePattern(text)
	})
	kern.numbers("core_uses_pid", 1, func() []int {
		if k.CoreUsesPID() {
			return []int{1}
		}
		return []int{0}
	}, func(v []int) error {
		k.SetCoreUsesPID(v[0] != 0)
		return nil
	})
}
