package kernel

import (
	"slices"

	"golang.org/x/sys/unix"

	"elver/arch/amd64"
	"elver/kernel/klog"
)

// deliver takes the next signal, if there is one, does what its action says, and ends the system call
// that it interrupted.
func (t *Thread) deliver() {
	s, action, ok := t.nextSignal()
	info := s.finish()
	if t.work.Load()&(workExit|workStop) != 0 {
		return // the call is resolved when, and if, the thread goes on
	}
	t.clearWork(workRestart)
	if !ok {
		t.resolveRestart(nil)
		t.RestoreMask()
		return
	}
	t.resolveRestart(&action)
	if t.rseq.addr != 0 {
		t.abortRseq() // before the frame saves RIP (rseq(2))
	}
	if t.k.config.Signaled != nil {
		t.k.config.Signaled(t, info)
	}
	t.enterHandler(info, action)
}

// nextSignal takes signals until it finds one with a handler; on the way it carries out the default
// actions. Not ok: there is none, or workExit or workStop is set.
func (t *Thread) nextSignal() (s taken, action Action, ok bool) {
	p := t.Proc
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.exiting && t.work.Load()&workStop == 0 {
		s, ok = t.dequeue(t.mask)
		if !ok {
			break
		}
		sig := Signal(s.info.Signo)
		if sig != sigKill && t.trace.Load() != nil {
			p.mu.Unlock()
			info := s.finish()
			sig = t.traceSignal(&info)
			p.mu.Lock()
			s = taken{info: info}
			if sig != 0 && (t.mask.Has(sig) || p.exiting) {
				t.requeue(info)
				sig = 0
			}
			if sig == 0 {
				continue
			}
		}
		action = p.actions.get(sig)
		switch {
		case action.Handler == SigIgn && sig != sigKill && sig != sigStop, defaultIgnored.Has(sig) && action.Handler == SigDfl:
			s.forgo()
		case action.Handler != SigDfl && action.Handler != SigIgn:
			if action.Flags&SAResetHand != 0 {
				reset := action // the flags stay
				reset.Handler = SigDfl
				p.actions.set(sig, reset)
			}
			t.recalc()
			return s, action, true
		case stopSignals.Has(sig):
			p.mu.Unlock()
			orphaned := sig != sigStop && p.Group().Orphaned()
			p.mu.Lock()
			// SIGCONT or SIGKILL may have come meanwhile, and cancelled this one.
			if !orphaned && !p.exiting && !(p.shared.set | t.pending.set).Has(sigCont) {
				p.beginStop(sig)
			}
		default:
			first := p.beginExitLocked(Killed(sig))
			threads := slices.Clone(p.threads)
			p.mu.Unlock()
			if t.k.config.Signaled != nil {
				t.k.config.Signaled(t, s.info)
			}
			if first {
				t.leaving = true // the report and the core file are read and written to the end
				t.reportDeath(s.info)
				t.dumpCore(s.info, threads)
			}
			p.mu.Lock()
		}
	}
	t.recalc()
	return taken{}, Action{}, false
}

// requeue makes a signal pending again that was taken. Precondition: mu is held.
func (t *Thread) requeue(info Siginfo) {
	q := t.pending.entry()
	q.info = info
	t.pending.push(q)
	t.pending.set |= SetOf(Signal(info.Signo))
}

// enterHandler builds the signal frame and makes the handler the next that the program runs. If there
// is no room for a frame, the program dies by SIGSEGV.
func (t *Thread) enterHandler(info Siginfo, action Action) {
	sig := Signal(info.Signo)
	stepping := t.stepping
	t.stopStepping() // the frame hasn't the tracer's trap flag
	if stepping {
		defer t.traceStepIntoHandler()
	}
	if err := t.pushFrame(&info, &action); err != nil {
		klog.Debugf("%s[%d]: no room for the frame of %v at %#x", t.Comm(), t.TID, sig, t.Ctx.RSP)
		t.force(KernelInfo(sigSegv), sig == sigSegv)
		return
	}
	t.clearWork(workMask)
	mask := t.mask | action.Mask
	if action.Flags&SANoDefer == 0 {
		mask |= SetOf(sig)
	}
	t.SetMask(mask)
	if t.Ctx.RIP >= amd64.UserEnd {
		t.badJump()
	}
}

func (t *Thread) pushFrame(info *Siginfo, action *Action) error {
	if action.Flags&SARestorer == 0 {
		return unix.EFAULT // x86-64 has no other way back, as in Linux
	}
	c, a := t.Ctx, &t.altStack
	var alt uint64
	if action.Flags&SAOnStack != 0 && a.state(c.RSP) == 0 {
		alt = a.SP + a.Size
	}
	frame, end := c.PlaceSignalFrame(alt)
	// A frame that would leave the alternate stack would overwrite what is below it.
	if on := alt != 0 || a.state(c.RSP) == ssOnStack; on && !a.holds(frame) {
		return unix.EFAULT
	}
	if frame >= end || end > amd64.UserEnd {
		return unix.EFAULT
	}
	f := amd64.SignalFrame{
		Handler: action.Handler, Restorer: action.Restorer, Signal: int(info.Signo), Mask: uint64(t.mask),
		StackSP: a.SP, StackFlags: a.Flags, StackSize: a.Size,
	}
	if t.work.Load()&workMask != 0 {
		f.Mask = uint64(t.savedMask)
	}
	b := c.EncodeSignalFrame(frame, &f)
	info.Encode(b[amd64.SignalInfoOffset:][:amd64.SignalInfoSize])
	if _, err := t.MM().CopyOut(frame, b); err != nil {
		return err
	}
	if a.Flags&ssAutodisarm != 0 {
		*a = AltStack{Flags: ssDisable}
	}
	c.EnterSignalHandler(frame, &f)
	return nil
}

// Sigreturn is rt_sigreturn(2): it takes all registers, the mask and the alternate stack from the frame at
// the stack pointer. A frame that is not there, or that the CPU would refuse, ends in SIGSEGV. The
// handler of the system call returns without Return or Fail.
func (t *Thread) Sigreturn() {
	t.restart = nil
	if err := t.popFrame(); err != nil {
		klog.Debugf("%s[%d]: bad signal frame at %#x: %v", t.Comm(), t.TID, t.Ctx.RSP-8, err)
		t.Ctx.OrigRAX = noSyscall
		t.Force(KernelInfo(sigSegv))
	}
}

func (t *Thread) popFrame() error {
	c := t.Ctx
	frame := c.RSP - 8 // the handler's RET took the restorer's address off the stack
	// Most of the time the extended state is where a frame of the kernel's has it.
	b := c.SignalFrameBuffer()
	n, err := t.MM().CopyIn(b, frame)
	if n < amd64.SignalFrameSize {
		return err
	}
	var f amd64.SignalFrame
	extended, err := c.RestoreSignalFrame(&f)
	if err != nil {
		return err
	}
	t.SetMask(SigSet(f.Mask))
	n = max(0, n-amd64.SignalStateOffset)
	if extended == 0 {
		n = 0
	} else if extended != frame+uint64(amd64.SignalStateOffset) {
		if n, err = t.MM().CopyIn(b[amd64.SignalStateOffset:], extended); n == 0 {
			return err
		}
	} else if n == 0 {
		return unix.EFAULT
	}
	if err := c.RestoreSignalState(n); err != nil {
		return err
	}
	t.SigAltStack(&AltStack{SP: f.StackSP, Flags: f.StackFlags, Size: f.StackSize}) // its refusal is no error
	if c.RIP >= amd64.UserEnd {
		t.badJump()
	}
	return nil
}

// badJump ends the program's hope to go on at an address that is not its own: the CPU would raise #GP at
// a non-canonical one, and a page fault in the kernel's half.
func (t *Thread) badJump() {
	rip := t.Ctx.RIP
	if rip>>47 != 0 && rip>>47 != 1<<17-1 {
		t.Force(KernelInfo(sigSegv))
		return
	}
	t.Ctx.FaultAddress = rip
	t.Force(FaultInfo(sigSegv, SegvMapErr, rip))
}
