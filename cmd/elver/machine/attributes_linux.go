package machine

import "syscall"

// processAttributes are QEMU's: it ends when this process does, and has a process group of its own unless it
// reads the terminal.
func processAttributes(ownGroup bool) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: ownGroup}
}
