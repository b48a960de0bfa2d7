package syscall

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"elver/arch/amd64"
	"elver/kernel"
	"elver/kernel/mm"
)

// Requests of ptrace(2) that package unix does not name.
const (
	ptraceGetRegs            = 12
	ptraceSetRegs            = 13
	ptraceGetFPRegs          = 14
	ptraceSetFPRegs          = 15
	ptraceArchPrctl          = 30
	ptraceSysemu             = 31
	ptraceSysemuSinglestep   = 32
	ptraceGetRseqConfig      = 0x420f
	peekSiginfoShared        = 1
	ptraceSyscallInfoNone    = 0
	ptraceSyscallInfoEntry   = 1
	ptraceSyscallInfoExit    = 2
	ptraceSyscallInfoSeccomp = 3
	auditArchX8664           = 0xc000003e
	maxErrno                 = 4095
	ntPRStatus               = 1
	ntPRFPReg                = 2
	ntX86XState              = 0x202
	sizeUserRegs             = 27 * 8
	sizeUser                 = 928 // struct user as the kernel has it
	offsetDebugRegs          = 848 // … u_debugreg
	debugStatus              = 6
	debugControl             = 7
	maxPeekedSiginfos        = 64 // at once
	maxTransferPiece         = 64 << 10
	ptraceOldSetOptions      = 21
	sizeofRseqConfiguration  = 24
)

// ptrace(2)
func sysPtrace(t *kernel.Thread, a *args) (uint64, error) {
	request, pid, addr, data := a.arg(0), a.int(1), a.arg(2), a.arg(3)
	switch request {
	case unix.PTRACE_TRACEME:
		return 0, t.TraceMe()
	case unix.PTRACE_ATTACH:
		return 0, t.TraceAttach(pid, false, 0)
	case unix.PTRACE_SEIZE:
		if addr != 0 || data&^kernel.TraceOptionMask != 0 {
			return 0, unix.EIO
		}
		return 0, t.TraceAttach(pid, true, kernel.TraceOptions(data))
	case unix.PTRACE_KILL:
		return 0, t.TraceKill(pid)
	case unix.PTRACE_INTERRUPT:
		return 0, t.TraceInterrupt(pid)
	case unix.PTRACE_LISTEN:
		return 0, t.TraceListen(pid)
	case unix.PTRACE_DETACH, unix.PTRACE_CONT, unix.PTRACE_SYSCALL, unix.PTRACE_SINGLESTEP, unix.PTRACE_SINGLEBLOCK, ptraceSysemu, ptraceSysemuSinglestep:
		return 0, ptraceResume(t, request, pid, data)
	case unix.PTRACE_PEEKTEXT, unix.PTRACE_PEEKDATA, unix.PTRACE_POKETEXT, unix.PTRACE_POKEDATA:
		return 0, ptraceMemory(t, request, pid, addr, data)
	case unix.PTRACE_PEEKUSR, unix.PTRACE_POKEUSR:
		return 0, ptraceUser(t, request == unix.PTRACE_POKEUSR, pid, addr, data)
	case ptraceGetRegs:
		return 0, ptraceRead(t, pid, data, func(o *kernel.Tracee) ([]byte, error) { return encodeRegs(o.Registers()), nil })
	case ptraceSetRegs:
		return 0, ptraceWrite(t, pid, data, sizeUserRegs, setRegs)
	case ptraceGetFPRegs:
		return 0, ptraceRead(t, pid, data, func(o *kernel.Tracee) ([]byte, error) { return o.Context().FloatRegs(), nil })
	case ptraceSetFPRegs:
		return 0, ptraceWrite(t, pid, data, amd64.FXSaveSize, func(o *kernel.Tracee, b []byte) error { return o.Context().SetFloatRegs(b) })
	case unix.PTRACE_GETREGSET, unix.PTRACE_SETREGSET:
		return 0, ptraceRegset(t, request == unix.PTRACE_SETREGSET, pid, addr, data)
	case unix.PTRACE_SETOPTIONS, ptraceOldSetOptions:
		return 0, t.WithTracee(pid, func(o *kernel.Tracee) error {
			if data&^kernel.TraceOptionMask != 0 {
				return unix.EINVAL
			}
			o.SetOptions(kernel.TraceOptions(data))
			return nil
		})
	case unix.PTRACE_GETEVENTMSG:
		return 0, ptraceRead(t, pid, data, func(o *kernel.Tracee) ([]byte, error) {
			return binary.LittleEndian.AppendUint64(nil, o.Message()), nil
		})
	case unix.PTRACE_GETSIGINFO:
		return 0, ptraceRead(t, pid, data, func(o *kernel.Tracee) ([]byte, error) {
			info, err := o.Siginfo()
			if err != nil {
				return nil, err
			}
			b := make([]byte, kernel.SiginfoSize)
			info.Encode(b)
			return b, nil
		})
	case unix.PTRACE_SETSIGINFO:
		return 0, ptraceWrite(t, pid, data, kernel.SiginfoSize, func(o *kernel.Tracee, b []byte) error {
			info, err := o.Siginfo()
			if err == nil {
				*info = kernel.DecodeSiginfo(b)
			}
			return err
		})
	case unix.PTRACE_GETSIGMASK:
		return 0, ptraceRead(t, pid, data, func(o *kernel.Tracee) ([]byte, error) {
			if addr != sizeofSigset {
				return nil, unix.EINVAL
			}
			return binary.LittleEndian.AppendUint64(nil, uint64(o.Mask())), nil
		})
	case unix.PTRACE_SETSIGMASK:
		return 0, ptraceWrite(t, pid, data, sizeofSigset, func(o *kernel.Tracee, b []byte) error {
			if addr != sizeofSigset {
				return unix.EINVAL
			}
			o.SetMask(kernel.SigSet(word(b, 0)))
			return nil
		})
	case unix.PTRACE_PEEKSIGINFO:
		return ptracePeekSiginfo(t, pid, addr, data)
	case unix.PTRACE_GET_SYSCALL_INFO:
		return ptraceSyscallInfo(t, pid, addr, data)
	case ptraceArchPrctl:
		return 0, ptraceArch(t, pid, addr, data)
	case ptraceGetRseqConfig:
		if addr != sizeofRseqConfiguration {
			return 0, unix.EINVAL
		}
		err := ptraceRead(t, pid, data, func(o *kernel.Tracee) ([]byte, error) {
			var e encoder
			area, size, signature := o.Rseq()
			e.u64(area)
			e.u32(size)
			e.u32(signature)
			e.u64(0)
			return e.b, nil
		})
		return sizeofRseqConfiguration, err
	}
	return 0, t.WithTracee(pid, func(*kernel.Tracee) error { return unix.EIO })
}

// ptraceResume lets a tracee go on, with a signal or 0 in data: EIO for what is none.
func ptraceResume(t *kernel.Thread, request uint64, pid int32, data uint64) error {
	sig := kernel.Signal(data)
	if data != 0 && (data > 64 || !sig.Valid()) {
		return t.WithTracee(pid, func(*kernel.Tracee) error { return unix.EIO })
	}
	var how kernel.Resume
	switch request {
	case unix.PTRACE_DETACH:
		return t.TraceDetach(pid, sig)
	case unix.PTRACE_SYSCALL:
		how = kernel.ResumeSyscall
	case unix.PTRACE_SINGLESTEP:
		how = kernel.ResumeStep
	case unix.PTRACE_SINGLEBLOCK:
		how = kernel.ResumeStep | kernel.ResumeBlock
	case ptraceSysemu:
		how = kernel.ResumeEmulate
	case ptraceSysemuSinglestep:
		how = kernel.ResumeEmulate | kernel.ResumeStep
	}
	return t.WithTracee(pid, func(o *kernel.Tracee) error {
		o.Resume(how, sig)
		return nil
	})
}

// tracee checks that t may look at pid now, for what must not happen beneath a lock.
func tracee(t *kernel.Thread, pid int32) (p *kernel.Process, err error) {
	err = t.WithTracee(pid, func(o *kernel.Tracee) error {
		p = o.Thread().Proc
		return nil
	})
	return p, err
}

// ptraceRead writes to the tracer's memory at data what get makes of the tracee.
func ptraceRead(t *kernel.Thread, pid int32, data uint64, get func(o *kernel.Tracee) ([]byte, error)) error {
	var b []byte
	err := t.WithTracee(pid, func(o *kernel.Tracee) (err error) {
		b, err = get(o)
		return err
	})
	if err != nil {
		return err
	}
	return copyOut(t, data, b)
}

// ptraceWrite reads size bytes of the tracer's memory at data and gives them to set.
func ptraceWrite(t *kernel.Thread, pid int32, data uint64, size int, set func(o *kernel.Tracee, b []byte) error) error {
	if _, err := tracee(t, pid); err != nil {
		return err
	}
	b := make([]byte, size)
	if err := copyIn(t, b, data); err != nil {
		return err
	}
	return t.WithTracee(pid, func(o *kernel.Tracee) error { return set(o, b) })
}

// ptraceMemory reads or writes a word of the tracee's memory, whatever its protection: EIO if it isn't there.
func ptraceMemory(t *kernel.Thread, request uint64, pid int32, addr, data uint64) error {
	p, err := tracee(t, pid)
	if err != nil {
		return err
	}
	as := p.AcquireMM()
	if as == nil {
		return unix.EIO
	}
	defer as.Release()
	var b [8]byte
	if request == unix.PTRACE_POKETEXT || request == unix.PTRACE_POKEDATA {
		binary.LittleEndian.PutUint64(b[:], data)
		if n, _ := as.ForcedCopyOut(addr, b[:]); n != len(b) {
			return unix.EIO
		}
		return nil
	}
	if n, _ := as.ForcedCopyIn(b[:], addr); n != len(b) {
		return unix.EIO
	}
	return copyOut(t, data, b[:])
}

func encodeRegs(r amd64.UserRegs) []byte {
	b := make([]byte, 0, sizeUserRegs)
	for _, v := range r {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

// setRegs sets as many registers as b holds.
func setRegs(o *kernel.Tracee, b []byte) error {
	for i := range len(b) / 8 {
		if err := o.SetRegister(i, word(b, 8*i)); err != nil {
			return err
		}
	}
	return nil
}

// ptraceUser is PTRACE_PEEKUSER and PTRACE_POKEUSER: a word of struct user, where the registers and the debug
// registers are.
func ptraceUser(t *kernel.Thread, set bool, pid int32, addr, data uint64) error {
	i := int(addr / 8)
	if addr%8 != 0 || addr >= sizeUser {
		return t.WithTracee(pid, func(*kernel.Tracee) error { return unix.EIO })
	}
	debug := i - offsetDebugRegs/8
	isDebug := debug >= 0 && debug <= debugControl
	if set {
		return t.WithTracee(pid, func(o *kernel.Tracee) error {
			switch {
			case isDebug:
				return setDebugReg(o.Context(), debug, data)
			case addr < sizeUserRegs:
				return o.SetRegister(i, data)
			}
			return unix.EIO
		})
	}
	return ptraceRead(t, pid, data, func(o *kernel.Tracee) ([]byte, error) {
		v := uint64(0)
		switch {
		case isDebug:
			v = debugReg(o.Context(), debug)
		case addr < sizeUserRegs:
			v = o.Registers()[i]
		}
		return binary.LittleEndian.AppendUint64(nil, v), nil
	})
}

func debugReg(c *amd64.Context, i int) uint64 {
	d := c.Debug()
	switch {
	case i < len(d.Addr):
		return d.Addr[i]
	case i == debugStatus:
		return d.Status
	case i == debugControl:
		return d.Control
	}
	return 0
}

func setDebugReg(c *amd64.Context, i int, v uint64) error {
	d := c.Debug()
	switch {
	case i < len(d.Addr):
		d.Addr[i] = v
	case i == debugStatus:
		d.Status = v
	case i == debugControl:
		d.Control = v
	default:
		return unix.EIO
	}
	return c.SetDebug(d)
}

// ptraceRegset is PTRACE_GETREGSET and PTRACE_SETREGSET: data is a struct iovec, whose length becomes that of what
// was moved.
func ptraceRegset(t *kernel.Thread, set bool, pid int32, kind, data uint64) error {
	if _, err := tracee(t, pid); err != nil {
		return err
	}
	var vec [16]byte
	if err := copyIn(t, vec[:], data); err != nil {
		return err
	}
	base, length := word(vec[:], 0), word(vec[:], 8)
	most := uint64(sizeUserRegs)
	switch kind {
	case ntPRStatus:
	case ntPRFPReg:
		most = amd64.FXSaveSize
	case ntX86XState:
		most = uint64(amd64.ExtendedStateSize())
	default:
		return unix.EINVAL
	}
	length = min(length, most)
	if length%8 != 0 {
		return unix.EINVAL
	}
	var err error
	if set {
		err = ptraceWrite(t, pid, base, int(length), func(o *kernel.Tracee, b []byte) error {
			switch kind {
			case ntPRStatus:
				return setRegs(o, b)
			case ntPRFPReg:
				return o.Context().SetFloatRegs(b)
			}
			return o.Context().SetXState(b)
		})
	} else {
		err = ptraceRead(t, pid, base, func(o *kernel.Tracee) ([]byte, error) {
			var b []byte
			var err error
			switch kind {
			case ntPRStatus:
				b = encodeRegs(o.Registers())
			case ntPRFPReg:
				b = o.Context().FloatRegs()
			default:
				b, err = o.Context().XState()
			}
			if err != nil {
				return nil, err
			}
			return b[:length], nil
		})
	}
	if err != nil {
		return err
	}
	return t.MM().WriteUint64(data+8, length)
}

// ptracePeekSiginfo copies siginfos of pending signals out, and returns how many.
func ptracePeekSiginfo(t *kernel.Thread, pid int32, addr, data uint64) (uint64, error) {
	if _, err := tracee(t, pid); err != nil {
		return 0, err
	}
	var b [16]byte
	if err := copyIn(t, b[:], addr); err != nil {
		return 0, err
	}
	off, flags, n := word(b[:], 0), binary.LittleEndian.Uint32(b[8:]), int32(binary.LittleEndian.Uint32(b[12:]))
	if flags&^peekSiginfoShared != 0 || n < 0 {
		return 0, unix.EINVAL
	}
	var infos []kernel.Siginfo
	err := t.WithTracee(pid, func(o *kernel.Tracee) error {
		infos = o.PendingInfos(flags&peekSiginfoShared != 0, off, int(min(n, maxPeekedSiginfos)))
		return nil
	})
	if err != nil {
		return 0, err
	}
	for i := range infos {
		one := make([]byte, kernel.SiginfoSize)
		infos[i].Encode(one)
		if err := copyOut(t, data+uint64(i)*kernel.SiginfoSize, one); err != nil {
			if i > 0 {
				return uint64(i), nil
			}
			return 0, err
		}
	}
	return uint64(len(infos)), nil
}

// ptraceSyscallInfo is PTRACE_GET_SYSCALL_INFO: it writes up to size bytes of struct ptrace_syscall_info and
// returns how many there are.
func ptraceSyscallInfo(t *kernel.Thread, pid int32, size, data uint64) (uint64, error) {
	var e encoder
	err := t.WithTracee(pid, func(o *kernel.Tracee) error {
		c := o.Context()
		entry, exit, filtered := o.SyscallStop()
		op := uint32(ptraceSyscallInfoNone)
		switch {
		case entry:
			op = ptraceSyscallInfoEntry
		case exit:
			op = ptraceSyscallInfoExit
		case filtered:
			op = ptraceSyscallInfoSeccomp
		}
		e.u32(op)
		e.u32(auditArchX8664)
		e.u64(c.RIP)
		e.u64(c.RSP)
		switch op {
		case ptraceSyscallInfoEntry, ptraceSyscallInfoSeccomp:
			e.u64(c.OrigRAX)
			for i := range 6 {
				e.u64((*args)(c).arg(i))
			}
			if filtered {
				e.u32(uint32(o.Message()))
			}
		case ptraceSyscallInfoExit:
			e.u64(c.RAX)
			failed := byte(0)
			if c.RAX >= ^uint64(maxErrno)+1 {
				failed = 1
			}
			e.b = append(e.b, failed)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return uint64(len(e.b)), copyOut(t, data, e.b[:min(size, uint64(len(e.b)))])
}

// ptraceArch is PTRACE_ARCH_PRCTL: arch_prctl(2) on the tracee, with the code in data.
func ptraceArch(t *kernel.Thread, pid int32, addr, code uint64) error {
	switch code {
	case archSetFS, archSetGS:
		return t.WithTracee(pid, func(o *kernel.Tracee) error {
			switch {
			case addr >= amd64.UserEnd:
				return unix.EPERM
			case code == archSetFS:
				o.Context().SetFSBase(addr)
			default:
				o.Context().SetGSBase(addr)
			}
			return nil
		})
	case archGetFS, archGetGS:
		return ptraceRead(t, pid, addr, func(o *kernel.Tracee) ([]byte, error) {
			v := o.Context().FSBase()
			if code == archGetGS {
				v = o.Context().GSBase()
			}
			return binary.LittleEndian.AppendUint64(nil, v), nil
		})
	}
	return t.WithTracee(pid, func(*kernel.Tracee) error { return unix.EINVAL })
}

// process_vm_readv(2)
func sysProcessVMReadv(t *kernel.Thread, a *args) (uint64, error) { return processVM(t, a, false) }

// process_vm_writev(2)
func sysProcessVMWritev(t *kernel.Thread, a *args) (uint64, error) { return processVM(t, a, true) }

// processVM moves bytes between the memory of t and of another process, as far as both allow it: a short count, or
// EFAULT if it is the first byte that they don't.
func processVM(t *kernel.Thread, a *args, write bool) (uint64, error) {
	if a.arg(5) != 0 {
		return 0, unix.EINVAL
	}
	own, err := segmentsAt(t, nil, a.arg(1), a.arg(2))
	if err != nil {
		return 0, err
	}
	others, err := segmentsAt(t, nil, a.arg(3), a.arg(4))
	if err != nil {
		return 0, err
	}
	own, others = skip(own, 0), skip(others, 0)
	if len(own) == 0 || len(others) == 0 {
		return 0, nil
	}
	o := t.Kernel().Thread(a.int(0))
	if o == nil {
		return 0, unix.ESRCH
	}
	as := o.Proc.AcquireMM()
	if as == nil {
		return 0, unix.ESRCH
	}
	defer as.Release()
	if !t.MayAttach(o.Proc) {
		return 0, unix.EPERM
	}
	from, to := as, t.MM()
	source, target := others, own
	if write {
		from, to, source, target = to, from, target, source
	}
	return moveMemory(t, to, target, from, source)
}

func moveMemory(t *kernel.Thread, to *mm.AddressSpace, target []mm.Segment, from *mm.AddressSpace, source []mm.Segment) (uint64, error) {
	buffer := make([]byte, maxTransferPiece)
	done := uint64(0)
	for len(target) > 0 && len(source) > 0 {
		n := min(target[0].Len, source[0].Len, maxTransferPiece)
		got, err := from.CopyIn(buffer[:n], source[0].Addr)
		put := 0
		if got > 0 {
			var failed error
			if put, failed = to.CopyOut(target[0].Addr, buffer[:got]); failed != nil {
				err = failed
			}
		}
		done += uint64(put)
		if err != nil || put < int(n) {
			if done > 0 || err == nil {
				err = nil
			}
			return done, err
		}
		target, source = skip(target, n), skip(source, n)
		if t.Interrupted() && done > 0 {
			break
		}
	}
	return done, nil
}

// skip returns what is left of segments behind their first n bytes, which are of the first segment.
func skip(s []mm.Segment, n uint64) []mm.Segment {
	if n > 0 {
		s[0].Addr += n
		s[0].Len -= n
	}
	for len(s) > 0 && s[0].Len == 0 {
		s = s[1:]
	}
	return s
}
