package syscall

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"elver/elf"
	"elver/kernel"
	"elver/kernel/klog"
	"elver/kernel/mm"
	"elver/vfs"
)

// DumpCore writes the core file of a process whose thread t dies (core(5)): kernel.Config.Core. Registers are
// taken first: the other threads end while the file is written.
func DumpCore(t *kernel.Thread, info kernel.Siginfo, threads []*kernel.Thread) bool {
	core := describe(t, info, threads)
	limit := t.Proc.Limits.Soft(unix.RLIMIT_CORE)
	// Without the thread: it is to end, which would end every wait of its own.
	c := &vfs.Context{Files: filesOf(t).Files, Creds: t.Creds()}
	name := coreName(t, kernel.Signal(info.Signo), limit)
	d, err := createCore(c, name)
	if err != nil {
		klog.Warnf("%s[%d]: no core file: %s: %v", t.Comm(), t.TID, name, err)
		return false
	}
	defer d.Decref()
	err = core.Write(&coreFile{c, d}, limit)
	if err != nil && err != unix.EFBIG { // shorter than RLIMIT_CORE is what was asked for
		klog.Warnf("%s[%d]: the core file %s is cut short: %v", t.Comm(), t.TID, name, err)
	} else {
		klog.Infof("%s[%d]: core file: %s", t.Comm(), t.TID, name)
	}
	return true
}

// describe collects what a core file tells of t's process.
func describe(t *kernel.Thread, info kernel.Siginfo, threads []*kernel.Thread) *elf.Core {
	p := t.Proc
	e, creds := p.Executable(), t.Creds()
	pgid, sid := int32(0), int32(0)
	if g := p.Group(); g != nil {
		pgid, sid = g.ID(), g.Session().ID()
	}
	core := &elf.Core{Space: t.MM(), Process: elf.CoreProcess{
		State: 'R', Nice: int8(t.Scheduling().Nice), UID: creds.RUID, GID: creds.RGID,
		PID: p.PID, PPID: p.ParentPID(), PGID: pgid, SID: sid, Name: t.Comm(),
		Arguments: strings.TrimRight(strings.ReplaceAll(string(memoryOf(t, e.ArgStart, min(e.ArgEnd, e.ArgStart+79))), "\x00", " "), " "),
	}}
	core.Siginfo = make([]byte, kernel.SiginfoSize)
	info.Encode(core.Siginfo)
	core.Auxv = e.Auxv
	childUser, childSystem := p.ChildrenCPUTime()
	add := func(o *kernel.Thread) {
		pending, _, blocked, _, _ := o.SignalState()
		user, system := o.CPUTime()
		thread := elf.CoreThread{
			TID: o.TID, Signal: info.Signo, Code: info.Code, Pending: uint64(pending), Blocked: uint64(blocked),
			UserNS: user, SystemNS: system, ChildUser: childUser, ChildSys: childSystem,
			PPID: core.Process.PPID, PGID: pgid, SID: sid,
			Registers: o.Ctx.UserRegs(), FloatRegisters: o.Ctx.FloatRegs(),
		}
		if state, err := o.Ctx.XState(); err == nil {
			thread.ExtendedState = state
		}
		core.Threads = append(core.Threads, thread)
	}
	add(t)
	for _, o := range threads {
		if o != t {
			add(o)
		}
	}
	return core
}

// memoryOf reads a piece of the program's memory, as far as it is there.
func memoryOf(t *kernel.Thread, start, end uint64) []byte {
	const most = 4096
	if end <= start {
		return nil
	}
	b := make([]byte, min(end-start, most))
	n, _ := t.MM().ForcedCopyIn(b, start)
	return b[:n]
}

// coreName makes a core file's name of the pattern (core(5), "Naming of core dump files").
func coreName(t *kernel.Thread, sig kernel.Signal, limit uint64) string {
	k, p := t.Kernel(), t.Proc
	pattern := k.CorePattern()
	var b strings.Builder
	withPID := false
	for i := 0; i < len(pattern); i++ {
		if pattern[i] != '%' || i == len(pattern)-1 {
			if pattern[i] != '%' {
				b.WriteByte(pattern[i])
			}
			continue
		}
		i++
		host, _ := k.Hostname()
		path := p.Executable().Path
		switch pattern[i] {
		case '%':
			b.WriteByte('%')
		case 'p', 'P':
			withPID = true
			fmt.Fprint(&b, p.PID)
		case 'i', 'I':
			fmt.Fprint(&b, t.TID)
		case 'u':
			fmt.Fprint(&b, t.Creds().RUID)
		case 'g':
			fmt.Fprint(&b, t.Creds().RGID)
		case 'd':
			fmt.Fprint(&b, p.Dumpable())
		case 's':
			fmt.Fprint(&b, int(sig))
		case 't':
			fmt.Fprint(&b, kernel.Realtime()/1e9)
		case 'c':
			fmt.Fprint(&b, limit)
		case 'h':
			b.WriteString(plainName(host))
		case 'e':
			b.WriteString(plainName(t.Comm()))
		case 'f':
			b.WriteString(plainName(path[strings.LastIndexByte(path, '/')+1:]))
		case 'E':
			b.WriteString(plainName(path))
		}
	}
	if !withPID && k.CoreUsesPID() {
		fmt.Fprintf(&b, ".%d", p.PID)
	}
	return b.String()
}

// plainName makes s a part of a name: without slashes.
func plainName(s string) string {
	if s == "." || s == ".." {
		return strings.ReplaceAll(s, ".", "!")
	}
	return strings.ReplaceAll(s, "/", "!")
}

// createCore makes the file anew: who has the old one open keeps that.
func createCore(c *vfs.Context, name string) (*vfs.Description, error) {
	if name == "" {
		return nil, unix.ENOENT
	}
	if err := c.Unlink(vfs.AtCWD, name); err != nil && err != unix.ENOENT {
		return nil, err
	}
	return c.OpenFile(vfs.AtCWD, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW, 0o600)
}

// coreFile is the file that a core is written to.
type coreFile struct {
	c *vfs.Context
	d *vfs.Description
}

// WriteAt writes all of p, or returns why not.
func (f *coreFile) WriteAt(p []byte, off int64) (int, error) {
	b := mm.KernelBuffer(p)
	done := 0
	for done < len(p) {
		n, err := f.d.Pwrite(f.c, &b, off+int64(done))
		done += n
		if err != nil {
			return done, err
		}
		if n == 0 {
			return done, errNoProgress
		}
	}
	return done, nil
}

var errNoProgress = errors.New("the file takes nothing more")
