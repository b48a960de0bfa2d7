package kernel

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Signal is a signal's number, 1 to 64.
type Signal int

// Signals are numbered from 1; the real-time ones from SIGRTMIN are queued.
const (
	signals  = 64
	SIGRTMIN = 32
	SIGRTMAX = 64
)

// Valid reports whether s is a signal.
func (s Signal) Valid() bool { return s >= 1 && s <= signals }

func (s Signal) realtime() bool { return s >= SIGRTMIN }

// String returns the signal's name.
func (s Signal) String() string {
	if s.realtime() {
		if s == SIGRTMIN {
			return "SIGRTMIN"
		}
		return fmt.Sprintf("SIGRTMIN+%d", int(s-SIGRTMIN))
	}
	if name := unix.SignalName(unix.Signal(s)); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", int(s))
}

// SigSet is a set of signals as in the program's memory: bit N-1 for signal N.
type SigSet uint64

// SetOf returns the set of these signals.
func SetOf(signals ...Signal) SigSet {
	var s SigSet
	for _, n := range signals {
		s |= 1 << uint(n-1)
	}
	return s
}

// Has reports whether n is in s.
func (s SigSet) Has(n Signal) bool { return s>>uint(n-1)&1 != 0 }

const (
	sigKill = Signal(unix.SIGKILL)
	sigStop = Signal(unix.SIGSTOP)
	sigCont = Signal(unix.SIGCONT)
	sigSegv = Signal(unix.SIGSEGV)
	sigChld = Signal(unix.SIGCHLD)
)

var (
	unblockable = SetOf(sigKill, sigStop)
	stopSignals = SetOf(sigStop, Signal(unix.SIGTSTP), Signal(unix.SIGTTIN), Signal(unix.SIGTTOU))
	// defaultIgnored are the signals whose default action is to do nothing.
	defaultIgnored = SetOf(sigCont, sigChld, Signal(unix.SIGWINCH), Signal(unix.SIGURG))
	// coreSignals would dump core; the others whose default is to end the process would not.
	coreSignals = SetOf(Signal(unix.SIGQUIT), Signal(unix.SIGILL), Signal(unix.SIGTRAP), Signal(unix.SIGABRT),
		Signal(unix.SIGFPE), sigSegv, Signal(unix.SIGBUS), Signal(unix.SIGSYS), Signal(unix.SIGXCPU), Signal(unix.SIGXFSZ))
	// synchronous are the signals that an instruction causes: they are delivered first.
	synchronous = SetOf(sigSegv, Signal(unix.SIGBUS), Signal(unix.SIGILL), Signal(unix.SIGTRAP), Signal(unix.SIGFPE), Signal(unix.SIGSYS))
)

// Codes of a siginfo (sigaction(2)).
const (
	SIUser    = 0
	SIKernel  = 0x80
	SIQueue   = -1
	SITimer   = -2
	SIMesgq   = -3
	SIAsyncIO = -4
	SISigIO   = -5
	SITkill   = -6

	SegvMapErr = 1
	SegvAccErr = 2

	BusAdrAln = 1
	BusAdrErr = 2

	FPEIntDiv = 1
	FPEIntOvf = 2
	FPEFltDiv = 3
	FPEFltOvf = 4
	FPEFltUnd = 5
	FPEFltRes = 6
	FPEFltInv = 7

	ILLIllOpn = 2

	TrapBrkpt  = 1
	TrapTrace  = 2
	TrapHWBkpt = 4

	CLDExited    = 1
	CLDKilled    = 2
	CLDDumped    = 3
	CLDTrapped   = 4
	CLDStopped   = 5
	CLDContinued = 6
)

// Siginfo is Linux's siginfo_t as far as the kernel fills it: three numbers and a union of 32 bytes.
// In the program's memory zeros follow up to SiginfoSize.
type Siginfo struct {
	Signo, Errno, Code int32
	union              [32]byte
}

// SiginfoSize is the size of siginfo_t in the program's memory, in bytes; of these the kernel keeps
// siginfoKept.
const (
	SiginfoSize = 128
	siginfoKept = 48
)

func (i *Siginfo) put32(offset int, v uint32) { binary.LittleEndian.PutUint32(i.union[offset:], v) }
func (i *Siginfo) put64(offset int, v uint64) { binary.LittleEndian.PutUint64(i.union[offset:], v) }
func (i *Siginfo) get32(offset int) uint32    { return binary.LittleEndian.Uint32(i.union[offset:]) }
func (i *Siginfo) get64(offset int) uint64    { return binary.LittleEndian.Uint64(i.union[offset:]) }

// Encode writes the siginfo_t to b, which has SiginfoSize bytes.
func (i *Siginfo) Encode(b []byte) {
	*(*[SiginfoSize]byte)(b) = [SiginfoSize]byte{}
	binary.LittleEndian.PutUint32(b, uint32(i.Signo))
	binary.LittleEndian.PutUint32(b[4:], uint32(i.Errno))
	binary.LittleEndian.PutUint32(b[8:], uint32(i.Code))
	copy(b[16:], i.union[:])
}

// DecodeSiginfo reads a siginfo_t that came from the program (rt_sigqueueinfo(2)).
func DecodeSiginfo(b []byte) Siginfo {
	var i Siginfo
	i.Signo = int32(binary.LittleEndian.Uint32(b))
	i.Errno = int32(binary.LittleEndian.Uint32(b[4:]))
	i.Code = int32(binary.LittleEndian.Uint32(b[8:]))
	copy(i.union[:], b[16:siginfoKept])
	return i
}

// The members of the union, by the offsets that Linux gives them behind si_code and its padding.

// PID returns si_pid, of kill, sigqueue and SIGCHLD.
func (i *Siginfo) PID() int32 { return int32(i.get32(0)) }

// UID returns si_uid, of kill, sigqueue and SIGCHLD.
func (i *Siginfo) UID() uint32 { return i.get32(4) }

// Status returns si_status of SIGCHLD.
func (i *Siginfo) Status() int32 { return int32(i.get32(8)) }

// Addr returns si_addr of a fault.
func (i *Siginfo) Addr() uint64 { return i.get64(0) }

// Value returns si_value of sigqueue and timers.
func (i *Siginfo) Value() uint64 { return i.get64(8) }

// TimerID returns si_timerid.
func (i *Siginfo) TimerID() int32 { return int32(i.get32(0)) }

// Overrun returns si_overrun of a timer.
func (i *Siginfo) Overrun() int32 { return int32(i.get32(4)) }

// Band and FD return si_band and si_fd of SIGIO.
func (i *Siginfo) Band() int64 { return int64(i.get64(0)) }

// FD returns si_fd of SIGIO.
func (i *Siginfo) FD() int32 { return int32(i.get32(8)) }

// UserInfo is the siginfo of kill (code SIUser) and tkill (SITkill) by t.
func (t *Thread) UserInfo(sig Signal, code int32) Siginfo {
	i := Siginfo{Signo: int32(sig), Code: code}
	i.put32(0, uint32(t.Proc.PID))
	i.put32(4, t.Creds().RUID)
	return i
}

// QueueInfo is the siginfo by which a message queue tells of the message that t sent (mq_notify(3)).
func (t *Thread) QueueInfo(sig Signal, value uint64) Siginfo {
	i := t.UserInfo(sig, SIMesgq)
	i.put64(8, value)
	return i
}

// KernelInfo is the siginfo of a signal that the kernel sends on its own account: of the terminal,
// of a broken pipe, of a limit.
func KernelInfo(sig Signal) Siginfo { return Siginfo{Signo: int32(sig), Code: SIKernel} }

// FaultInfo is the siginfo of a fault at addr.
func FaultInfo(sig Signal, code int32, addr uint64) Siginfo {
	i := Siginfo{Signo: int32(sig), Code: code}
	i.put64(0, addr)
	return i
}

// IOInfo is the siginfo of SIGIO, or of the signal that F_SETSIG chose.
func IOInfo(sig Signal, code int32, band int64, fd int32) Siginfo {
	i := Siginfo{Signo: int32(sig), Code: code}
	i.put64(0, uint64(band))
	i.put32(8, uint32(fd))
	return i
}

func timerInfo(sig Signal, id, overrun int32, value uint64) Siginfo {
	i := Siginfo{Signo: int32(sig), Code: SITimer}
	i.put32(0, uint32(id))
	i.put32(4, uint32(overrun))
	i.put64(8, value)
	return i
}

// childInfo is the siginfo of SIGCHLD: times are in ticks of 100 Hz.
func childInfo(code int32, pid int32, uid uint32, status int32, userNS, systemNS int64) Siginfo {
	const tickNS = nanosPerSecond / 100
	i := Siginfo{Signo: int32(sigChld), Code: code}
	i.put32(0, uint32(pid))
	i.put32(4, uid)
	i.put32(8, uint32(status))
	i.put64(16, uint64(userNS/tickNS))
	i.put64(24, uint64(systemNS/tickNS))
	return i
}
