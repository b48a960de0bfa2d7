package kernel

import "golang.org/x/sys/unix"

// Restartable sequences (rseq(2)): the program registers an area per thread in which the kernel keeps the number
// of the CPU, and in which it announces a critical section. A thread that is preempted or gets a
// signal inside one goes on at its abort address. There is one CPU, so its number never changes.

type rseqArea struct {
	addr      uint64 // 0: not registered
	length    uint32
	signature uint32
}

// The layout of struct rseq and struct rseq_cs (include/uapi/linux/rseq.h).
const (
	rseqMinSize     = 32
	rseqAlign       = 32
	rseqUnregister  = 1
	rseqCPUStart    = 0
	rseqCPU         = 4
	rseqCS          = 8
	rseqNode        = 20
	rseqMMCID       = 24
	rseqNoCPU       = ^uint32(0)
	csVersion       = 0
	csStart         = 8
	csLength        = 16
	csAbort         = 24
	sizeOfSignature = 4
)

// SetRseq is rseq(2).
func (t *Thread) SetRseq(addr uint64, length uint32, flags int, signature uint32) error {
	as, r := t.MM(), &t.rseq
	if flags&rseqUnregister != 0 {
		switch {
		case flags != rseqUnregister, r.addr == 0, r.addr != addr, r.length != length:
			return unix.EINVAL
		case r.signature != signature:
			return unix.EPERM
		}
		if as.WriteUint32(addr+rseqCPUStart, 0) != nil || as.WriteUint32(addr+rseqCPU, rseqNoCPU) != nil {
			return unix.EFAULT
		}
		*r = rseqArea{}
		return nil
	}
	switch {
	case flags != 0:
		return unix.EINVAL
	case r.addr != 0 && (r.addr != addr || r.length != length):
		return unix.EINVAL
	case r.addr != 0 && r.signature != signature:
		return unix.EPERM
	case r.addr != 0:
		return unix.EBUSY
	case length < rseqMinSize, addr%rseqAlign != 0:
		return unix.EINVAL
	}
	for _, offset := range []uint64{rseqCPUStart, rseqCPU, rseqNode, rseqMMCID} {
		if as.WriteUint32(addr+offset, 0) != nil {
			return unix.EFAULT
		}
	}
	*r = rseqArea{addr, length, signature}
	return nil
}

// abortRseq sends the thread to the abort address of the critical section that it is in, if it is in one.
func (t *Thread) abortRseq() {
	if t.rseq.addr == 0 {
		return
	}
	if err := t.tryAbortRseq(); err != nil {
		t.Force(KernelInfo(sigSegv))
	}
}

func (t *Thread) tryAbortRseq() error {
	as := t.MM()
	cs, err := as.ReadUint64(t.rseq.addr + rseqCS)
	if err != nil || cs == 0 {
		return err
	}
	version, err := as.ReadUint32(cs + csVersion)
	if err != nil {
		return err
	}
	start, err := as.ReadUint64(cs + csStart)
	if err != nil {
		return err
	}
	length, err := as.ReadUint64(cs + csLength)
	if err != nil {
		return err
	}
	abort, err := as.ReadUint64(cs + csAbort)
	if err != nil {
		return err
	}
	if version != 0 || abort-start < length {
		return unix.EINVAL
	}
	// The next section announces itself anew: the word is cleared whether or not this one was left.
	if err := as.WriteUint64(t.rseq.addr+rseqCS, 0); err != nil {
		return err
	}
	if t.Ctx.RIP-start >= length {
		return nil
	}
	// Only an address that carries the program's signature may be jumped to.
	signature, err := as.ReadUint32(abort - sizeOfSignature)
	if err != nil {
		return err
	}
	if signature != t.rseq.signature {
		return unix.EINVAL
	}
	t.Ctx.ReturnByIRET()
	t.Ctx.RIP = abort
	return nil
}
