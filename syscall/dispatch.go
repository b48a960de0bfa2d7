package syscall

import (
	"strconv"

	"golang.org/x/sys/unix"

	"elver/arch/amd64"
	"elver/kernel"
)

// limit is one more than the greatest number of the table.
const limit = 463

// handlers are the handlers by number: what a call costs beyond its own work is one bounds check,
// one load and one indirect call.
var handlers [limit]handler

// numbered are the rows by number, nil where Linux has none.
var numbered [limit]*row

func init() {
	for i := range handlers {
		handlers[i] = notImplemented
	}
	for i := range rows {
		r := &rows[i]
		numbered[r.number] = r
		if r.handler != nil {
			handlers[r.number] = r.handler
		}
	}
}

// AnswerAtEntry lets the system call entry answer the calls whose results kernel.Thread keeps ready.
// They reach neither trace nor summary then.
func AnswerAtEntry() {
	for nr, answer := range map[int]int{
		unix.SYS_GETPID: kernel.AnswerPID, unix.SYS_GETTID: kernel.AnswerTID, unix.SYS_GETPPID: kernel.AnswerPPID,
		unix.SYS_GETUID: kernel.AnswerUID, unix.SYS_GETEUID: kernel.AnswerEUID,
		unix.SYS_GETGID: kernel.AnswerGID, unix.SYS_GETEGID: kernel.AnswerEGID,
	} {
		amd64.AnswerAtEntry(nr, answer)
	}
}

func notImplemented(*kernel.Thread, *args) (uint64, error) { return 0, unix.ENOSYS }

// Dispatch serves the system call that t has made: kernel.Config.Syscall. It is some twenty
// instructions beside the handler's own.
func Dispatch(t *kernel.Thread) {
	number := uint32(t.Ctx.OrigRAX) // like Linux: only the low half counts
	if observed {
		observe(t, number)
		return
	}
	if number >= limit {
		noCall := unix.ENOSYS
		t.Ctx.RAX = -uint64(noCall)
		return
	}
	v, err := handlers[number](t, (*args)(t.Ctx))
	if err != nil {
		t.Fail(err)
		return
	}
	t.Ctx.RAX = v
}

// serve is the work of Dispatch for those who look at it.
func serve(t *kernel.Thread, number uint32) {
	if number >= limit {
		t.Fail(unix.ENOSYS)
		return
	}
	v, err := handlers[number](t, (*args)(t.Ctx))
	if err != nil {
		t.Fail(err)
		return
	}
	t.Ctx.RAX = v
}

func rowOf(number uint32) *row {
	if number >= limit {
		return nil
	}
	return numbered[number]
}

// Name returns the name of a system call as strace writes it, for reports.
func Name(number uint32) string {
	if r := rowOf(number); r != nil {
		return r.name
	}
	return "syscall_0x" + strconv.FormatUint(uint64(number), 16)
}
