package kernel

import (
	"strings"

	"golang.org/x/sys/unix"
)

// coreDumped is the bit of an ExitStatus that says that there is a core file.
const coreDumped ExitStatus = 0x80

// CorePattern returns how core files are named (core(5)).
func (k *Kernel) CorePattern() string {
	if p := k.corePattern.Load(); p != nil {
		return *p
	}
	return "core"
}

// SetCorePattern sets it: EINVAL for a program to pipe core files to, which there can't be.
func (k *Kernel) SetCorePattern(pattern string) error {
	if strings.HasPrefix(pattern, "|") {
		return unix.EINVAL
	}
	k.corePattern.Store(&pattern)
	return nil
}

// CoreUsesPID returns whether the name ends with the process's number though the pattern has none.
func (k *Kernel) CoreUsesPID() bool { return k.coreUsesPID.Load() }

// SetCoreUsesPID sets it.
func (k *Kernel) SetCoreUsesPID(v bool) { k.coreUsesPID.Store(v) }

// dumpCore writes a core file, if the process may have one. t took the signal, others are the process's
// threads, all of which are to end.
func (t *Thread) dumpCore(info Siginfo, others []*Thread) {
	p := t.Proc
	if t.k.config.Core == nil || !coreSignals.Has(Signal(info.Signo)) || p.Dumpable() != dumpableUser || p.Limits.Soft(unix.RLIMIT_CORE) == 0 {
		return
	}
	if t.k.config.Core(t, info, others) {
		p.mu.Lock()
		p.status |= coreDumped
		p.mu.Unlock()
	}
}
