package kernel

import (
	"golang.org/x/sys/unix"

	"elver/arch/amd64"
)

// StartInit makes a process 1 of the kernel's own, for programs that must not be it: NewFirst then makes
// process 2, its child. Orphans become its children and are reaped when they end; signals that are sent to
// it, it passes on to the program, but those that it could not catch in user mode do nothing (kill(2),
// NOTES). It ends with the machine.
//
// It has neither memory nor files: its one thread never leaves the kernel.
func (k *Kernel) StartInit() error {
	p := k.newProcess(nil, nil, DefaultLimits(k.config.MaxTasks), &Actions{})
	p.unkillable = true
	p.actions.set(sigChld, Action{Handler: SigIgn}) // which reaps
	t := k.newThread(p, amd64.NewContext(), RootCredentials(), "")
	t.SetComm("init")
	t.mask = ^SetOf(sigChld) &^ unblockable
	k.tree.Lock()
	err := k.addThread(t, true, nil)
	if err == nil {
		k.init = p
		k.newSession(p)
	}
	k.tree.Unlock()
	if err != nil {
		return err
	}
	k.running.Add(1)
	go t.passOn()
	return nil
}

// passOn is the life of init's thread.
func (t *Thread) passOn() {
	defer t.k.running.Done()
	t.cpu.start()
	signals := t.mask
	for t.work.Load()&workExit == 0 {
		t.clearWork(workSignal)
		info, err := t.SigTimedWait(signals, Never)
		if err != nil {
			continue
		}
		t.k.tree.Lock()
		program := t.k.first
		t.k.tree.Unlock()
		if program != nil && !defaultIgnored.Has(Signal(info.Signo)) {
			program.Kill(Signal(info.Signo), info)
		}
	}
	t.exit()
}

// Init returns the process that StartInit made; nil if there is none.
func (k *Kernel) Init() *Process {
	k.tree.Lock()
	defer k.tree.Unlock()
	if k.init != nil && k.init.unkillable {
		return k.init
	}
	return nil
}

// ignoresChildren reports whether the process's children leave no zombies (wait(2), NOTES).
func (p *Process) ignoresChildren() (reap, silent bool) {
	a := p.actions.get(sigChld)
	silent = a.Handler == SigIgn
	return silent || a.Flags&SANoCldWait != 0, silent
}

// refuses reports whether a signal has no effect on init. Precondition: mu is held.
func (p *Process) refuses(sig Signal) bool {
	return p.unkillable && (sig == Signal(unix.SIGKILL) || stopSignals.Has(sig)) && !p.k.stopping.Load()
}
