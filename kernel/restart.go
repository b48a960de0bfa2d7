package kernel

import "golang.org/x/sys/unix"

// How a system call goes on that a signal interrupted (Linux: include/linux/errno.h). These errors end
// the handler of a call; the loop turns them into what the program sees:
//
//	                      a handler runs         no handler runs (stop and continue, a signal
//	                                             that another thread took)
//	ERESTARTSYS           EINTR, or the call     the call starts over
//	                      starts over if
//	                      SA_RESTART is set
//	ERESTARTNOINTR        the call starts over   the call starts over
//	ERESTARTNOHAND        EINTR                  the call starts over
//	ERESTART_RESTARTBLOCK EINTR                  restart_syscall(2) goes on, see RestartWith
const (
	ERESTARTSYS           = unix.Errno(512)
	ERESTARTNOINTR        = unix.Errno(513)
	ERESTARTNOHAND        = unix.Errno(514)
	ERESTART_RESTARTBLOCK = unix.Errno(516)
)

// RestartWith has restart_syscall(2) call f, and returns the error with which the call that is
// interrupted ends: for calls with a relative timeout, which must not begin anew.
func (t *Thread) RestartWith(f func(*Thread) (uint64, error)) error {
	t.restart = f
	return ERESTART_RESTARTBLOCK
}

// RestartSyscall is restart_syscall(2).
func (t *Thread) RestartSyscall() (uint64, error) {
	f := t.restart
	t.restart = nil
	if f == nil {
		return 0, unix.EINTR
	}
	return f(t)
}

const (
	noSyscall       = ^uint64(0) // OrigRAX of whoever did not come by a system call
	sizeSyscall     = 2          // the length of the instruction SYSCALL
	numberOfRestart = unix.SYS_RESTART_SYSCALL
)

// resolveRestart ends a system call that failed with one of the errors above. action is that of the
// handler that is about to run, nil if none is.
func (t *Thread) resolveRestart(action *Action) {
	c := t.Ctx
	if c.OrigRAX == noSyscall {
		return
	}
	again := action == nil
	number := c.OrigRAX
	switch unix.Errno(-c.RAX) {
	case ERESTARTSYS:
		again = again || action.Flags&SARestart != 0
	case ERESTARTNOINTR:
		again = true
	case ERESTARTNOHAND:
	case ERESTART_RESTARTBLOCK:
		number = numberOfRestart
	default:
		return
	}
	if again {
		c.ReturnByIRET()
		c.RAX = number
		c.RIP -= sizeSyscall
	} else {
		c.RAX = errnoResult(unix.EINTR)
	}
	c.OrigRAX = noSyscall
}
