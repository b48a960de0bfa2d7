//go:build !linux

package machine

import "syscall"

// processAttributes are QEMU's: it has a process group of its own unless it reads the terminal.
func processAttributes(ownGroup bool) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: ownGroup}
}
