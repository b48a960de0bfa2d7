package syscall

import (
	"golang.org/x/sys/unix"

	"elver/kernel"
)

// getpid(2)
func sysGetpid(t *kernel.Thread, a *args) (uint64, error) { return uint64(t.Proc.PID), nil }

// getppid(2)
func sysGetppid(t *kernel.Thread, a *args) (uint64, error) { return uint64(t.Proc.ParentPID()), nil }

// gettid(2)
func sysGettid(t *kernel.Thread, a *args) (uint64, error) { return uint64(t.TID), nil }

// getpgrp(2)
func sysGetpgrp(t *kernel.Thread, a *args) (uint64, error) { return pgid(t, 0) }

// getpgid(2)
func sysGetpgid(t *kernel.Thread, a *args) (uint64, error) { return pgid(t, a.int(0)) }

func pgid(t *kernel.Thread, pid int32) (uint64, error) {
	if pid == 0 {
		pid = t.Proc.PID
	}
	id, err := t.Kernel().PGID(pid)
	return uint64(id), err
}

// setpgid(2)
func sysSetpgid(t *kernel.Thread, a *args) (uint64, error) { return 0, t.SetPGID(a.int(0), a.int(1)) }

// getsid(2)
func sysGetsid(t *kernel.Thread, a *args) (uint64, error) {
	pid := a.int(0)
	if pid == 0 {
		pid = t.Proc.PID
	}
	id, err := t.Kernel().SID(pid)
	return uint64(id), err
}

// setsid(2)
func sysSetsid(t *kernel.Thread, a *args) (uint64, error) {
	id, err := t.SetSID()
	return uint64(id), err
}

// exit(2)
func sysExit(t *kernel.Thread, a *args) (uint64, error) {
	t.Exit(int(a.int(0)))
	return 0, nil
}

// exit_group(2)
func sysExitGroup(t *kernel.Thread, a *args) (uint64, error) {
	t.ExitGroup(int(a.int(0)))
	return 0, nil
}

// clone(2): the raw call's order of arguments on x86-64 is flags, stack, parent_tid, child_tid, tls.
func sysClone(t *kernel.Thread, a *args) (uint64, error) {
	const both = unix.CLONE_PIDFD | unix.CLONE_PARENT_SETTID // they would share an argument
	if a.arg(0)&both == both {
		return 0, unix.EINVAL
	}
	return clone(t, kernel.CloneArgs{
		Flags: a.arg(0) & 0xffffffff &^ unix.CSIGNAL, ExitSignal: kernel.Signal(a.arg(0) & unix.CSIGNAL),
		Stack: a.arg(1), ParentTID: a.arg(2), ChildTID: a.arg(3), TLS: a.arg(4),
	}, a.arg(2))
}

// fork(2)
func sysFork(t *kernel.Thread, a *args) (uint64, error) {
	return clone(t, kernel.CloneArgs{ExitSignal: kernel.Signal(unix.SIGCHLD)}, 0)
}

// vfork(2)
func sysVfork(t *kernel.Thread, a *args) (uint64, error) {
	return clone(t, kernel.CloneArgs{Flags: unix.CLONE_VM | unix.CLONE_VFORK, ExitSignal: kernel.Signal(unix.SIGCHLD)}, 0)
}

// clone3(2)
func sysClone3(t *kernel.Thread, a *args) (uint64, error) {
	const (
		first = 64 // CLONE_ARGS_SIZE_VER0
		known = 88 // CLONE_ARGS_SIZE_VER2
	)
	size := a.arg(1)
	if size < first {
		return 0, unix.EINVAL
	}
	b, err := extensible(t, a.arg(0), size, int(min(size, known)))
	if err != nil {
		return 0, err
	}
	b = append(b, make([]byte, known-len(b))...)
	flags, signal, stack, stackSize := word(b, 0), word(b, 32), word(b, 40), word(b, 48)
	if flags&(unix.CSIGNAL|unix.CLONE_DETACHED) != 0 || signal&^unix.CSIGNAL != 0 || (stack == 0) != (stackSize == 0) {
		return 0, unix.EINVAL
	}
	if flags&(unix.CLONE_THREAD|unix.CLONE_PARENT) != 0 && signal != 0 {
		return 0, unix.EINVAL
	}
	if word(b, 64) != 0 || word(b, 72) != 0 { // set_tid: for checkpoints alone
		return 0, unix.EPERM
	}
	const both = unix.CLONE_PIDFD | unix.CLONE_PARENT_SETTID
	if flags&both == both && word(b, 8) == word(b, 24) {
		return 0, unix.EINVAL
	}
	return clone(t, kernel.CloneArgs{
		Flags: flags, ChildTID: word(b, 16), ParentTID: word(b, 24),
		ExitSignal: kernel.Signal(signal), Stack: stack + stackSize, TLS: word(b, 56),
	}, word(b, 8))
}

// clone makes the child; pidfd is where CLONE_PIDFD puts its descriptor.
func clone(t *kernel.Thread, c kernel.CloneArgs, pidfd uint64) (uint64, error) {
	if c.Flags&unix.CLONE_INTO_CGROUP != 0 {
		return 0, unix.EINVAL // there are no control groups
	}
	if c.Flags&unix.CLONE_PIDFD != 0 {
		if c.Flags&(unix.CLONE_DETACHED|unix.CLONE_THREAD) != 0 {
			return 0, unix.EINVAL
		}
		clonePidfd(t, &c, pidfd)
	}
	tid, err := t.Clone(c)
	return uint64(tid), err
}

// wait4(2)
func sysWait4(t *kernel.Thread, a *args) (uint64, error) {
	options := int(a.int(2))
	if options&^(unix.WNOHANG|unix.WUNTRACED|unix.WCONTINUED|unix.WNOTHREAD|unix.WCLONE|unix.WALL) != 0 {
		return 0, unix.EINVAL
	}
	w := kernel.WaitFor{Options: options | unix.WEXITED}
	switch pid := a.int(0); {
	case pid == -1<<31:
		return 0, unix.ESRCH
	case pid < -1:
		w.Group = -pid
	case pid == 0:
		w.Group = t.Proc.Group().ID()
	case pid > 0:
		w.PID = pid
	}
	got, err := t.WaitChild(w)
	if err != nil || got.PID == 0 {
		return 0, err
	}
	if a.arg(1) != 0 {
		if err := t.MM().WriteUint32(a.arg(1), uint32(got.Status)); err != nil {
			return 0, err
		}
	}
	if a.arg(3) != 0 {
		if err := writeRusage(t, a.arg(3), &got.Usage); err != nil {
			return 0, err
		}
	}
	return uint64(got.PID), nil
}

// waitid(2)
func sysWaitid(t *kernel.Thread, a *args) (uint64, error) {
	options := int(a.int(3))
	if options&^(unix.WNOHANG|unix.WNOWAIT|unix.WEXITED|unix.WSTOPPED|unix.WCONTINUED|unix.WNOTHREAD|unix.WCLONE|unix.WALL) != 0 ||
		options&(unix.WEXITED|unix.WSTOPPED|unix.WCONTINUED) == 0 {
		return 0, unix.EINVAL
	}
	w := kernel.WaitFor{Options: options}
	again := false
	id := a.int(1)
	switch a.int(0) {
	case unix.P_ALL:
	case unix.P_PID:
		if id <= 0 {
			return 0, unix.EINVAL
		}
		w.PID = id
	case unix.P_PGID:
		if id < 0 {
			return 0, unix.EINVAL
		}
		if w.Group = id; id == 0 {
			w.Group = t.Proc.Group().ID()
		}
	case unix.P_PIDFD:
		if id < 0 {
			return 0, unix.EINVAL
		}
		p, nonblocking, err := processOf(t, id)
		if err != nil {
			return 0, err
		}
		w.PID = p.PID
		if nonblocking {
			// A child that has not changed gives EAGAIN, not 0.
			w.Options |= unix.WNOHANG
			again = options&unix.WNOHANG == 0
		}
	default:
		return 0, unix.EINVAL
	}
	got, err := t.WaitChild(w)
	if err != nil {
		return 0, err
	}
	if again && got.PID == 0 {
		return 0, unix.EAGAIN
	}
	if a.arg(4) != 0 && got.PID != 0 {
		if err := writeRusage(t, a.arg(4), &got.Usage); err != nil {
			return 0, err
		}
	}
	if a.arg(2) == 0 {
		return 0, nil
	}
	e := encoder{localOf(t).bytes[:0]}
	if got.PID != 0 {
		e.u32(uint32(unix.SIGCHLD))
		e.u32(0)
		e.u32(uint32(got.Code))
		e.u32(0)
		e.u32(uint32(got.PID))
		e.u32(got.UID)
		e.u32(waitedStatus(got))
	}
	e.zero(kernel.SiginfoSize - len(e.b))
	return 0, copyOut(t, a.arg(2), e.b)
}

// waitedStatus is si_status: the exit code, or the signal.
func waitedStatus(w kernel.Waited) uint32 {
	switch w.Code {
	case kernel.CLDTrapped:
		return uint32(w.Status) >> 8 // with the event
	case kernel.CLDExited, kernel.CLDStopped:
		return uint32(w.Status) >> 8 & 0xff
	case kernel.CLDContinued:
		return uint32(unix.SIGCONT)
	}
	return uint32(w.Status) & 0x7f
}

// getrusage(2)
func sysGetrusage(t *kernel.Thread, a *args) (uint64, error) {
	usage, err := t.Rusage(int(a.int(0)))
	if err != nil {
		return 0, err
	}
	return 0, writeRusage(t, a.arg(1), &usage)
}

func writeRusage(t *kernel.Thread, addr uint64, u *unix.Rusage) error {
	e := encoder{localOf(t).bytes[:0]}
	for _, v := range [...]int64{
		u.Utime.Sec, u.Utime.Usec, u.Stime.Sec, u.Stime.Usec, u.Maxrss, u.Ixrss, u.Idrss, u.Isrss,
		u.Minflt, u.Majflt, u.Nswap, u.Inblock, u.Oublock, u.Msgsnd, u.Msgrcv, u.Nsignals, u.Nvcsw, u.Nivcsw,
	} {
		e.u64(uint64(v))
	}
	return copyOut(t, addr, e.b)
}

// unshare(2)
func sysUnshare(t *kernel.Thread, a *args) (uint64, error) {
	flags := a.arg(0)
	const shared = unix.CLONE_FILES | unix.CLONE_FS | unix.CLONE_SYSVSEM
	const whole = unix.CLONE_THREAD | unix.CLONE_SIGHAND | unix.CLONE_VM // nothing to do in a process of one thread
	const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWPID |
		unix.CLONE_NEWNET | unix.CLONE_NEWTIME
	if flags&^(shared|whole|namespaces) != 0 || flags&whole != 0 && len(t.Proc.Threads()) > 1 {
		return 0, unix.EINVAL
	}
	if flags&namespaces != 0 {
		if !t.Creds().HasCap(unix.CAP_SYS_ADMIN) {
			return 0, unix.EPERM
		}
		return 0, unix.EINVAL // as a Linux without them
	}
	files := localOf(t).files.Files
	if flags&unix.CLONE_FILES != 0 {
		files.UnshareTable()
	}
	if flags&unix.CLONE_FS != 0 {
		files.UnshareFS()
	}
	if flags&unix.CLONE_SYSVSEM != 0 {
		t.LeaveSemaphoreUndo()
	}
	return 0, nil
}
