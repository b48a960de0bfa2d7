package syscall

import (
	"golang.org/x/sys/unix"

	"elver/kernel"
)

// set_tid_address(2)
func sysSetTidAddress(t *kernel.Thread, a *args) (uint64, error) {
	t.SetClearTID(a.arg(0))
	return uint64(t.TID), nil
}

// rseq(2)
func sysRseq(t *kernel.Thread, a *args) (uint64, error) {
	return 0, t.SetRseq(a.arg(0), a.uint(1), int(a.int(2)), a.uint(3))
}

// getcpu(2): there is one CPU, on one node.
func sysGetcpu(t *kernel.Thread, a *args) (uint64, error) {
	for i := range 2 {
		if a.arg(i) == 0 {
			continue
		}
		if err := t.MM().WriteUint32(a.arg(i), 0); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// membarrier(2): with one CPU every other thread has passed through the kernel since it last ran.
func sysMembarrier(t *kernel.Thread, a *args) (uint64, error) {
	const commands = 0x1ff // all up to MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ
	command := a.uint(0)
	if a.uint(1) != 0 {
		return 0, unix.EINVAL
	}
	if command == 0 {
		return commands, nil
	}
	if command&(command-1) != 0 || command&^commands != 0 {
		return 0, unix.EINVAL
	}
	return 0, nil
}
