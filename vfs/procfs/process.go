package procfs

import (
	"bytes"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel"
	"elver/kernel/mm"
	"elver/vfs"
	"elver/vfs/tty"
)

// processes makes top the root: its static files, self and thread-self, and a directory per process.
func (f *FS) processes(top *dir) *dir {
	self := func(c *vfs.Context) (int32, int32, error) {
		if c.Thread == nil {
			return 0, 0, unix.ENOENT
		}
		return c.Thread.Proc.PID, c.Thread.TID, nil
	}
	selfLink := f.newLink(f.newIno(), func(c *vfs.Context) (string, error) {
		pid, _, err := self(c)
		return strconv.Itoa(int(pid)), err
	})
	threadLink := f.newLink(f.newIno(), func(c *vfs.Context) (string, error) {
		pid, tid, err := self(c)
		return fmt.Sprintf("%d/task/%d", pid, tid), err
	})
	top.fill = func() {
		f.addGlobal(top)
		top.put("self", selfLink)
		top.put("thread-self", threadLink)
	}
	k := f.config.Kernel
	if k == nil {
		return top
	}
	top.find = func(c *vfs.Context, name string) (vfs.Inode, error) {
		switch name { // without filling the directory for them
		case "self":
			return selfLink, nil
		case "thread-self":
			return threadLink, nil
		}
		n, ok := number(name)
		if !ok {
			return nil, unix.ENOENT
		}
		p := k.Process(n)
		var t *kernel.Thread
		if p == nil {
			// A thread's number leads to its process, though it isn't listed.
			if t = k.Thread(n); t == nil {
				return nil, unix.ENOENT
			}
			p = t.Proc
		} else {
			t = p.Leader()
		}
		return f.process(p, t, true), nil
	}
	top.list = func(c *vfs.Context, after int64, add adder) error {
		var all []int32
		for _, p := range k.Processes() {
			all = append(all, p.PID)
		}
		numbers(all, 0, unix.S_IFDIR|0o555, after, add)
		return nil
	}
	return top
}

// The entries of a process's or thread's directory. Their index is the low part of the inode number.
var entries []processFile

type processFile struct {
	name    string
	process bool // of processes only
	make    maker
}

// In init, because the entries of task/ have entries themselves.
func init() {
	entries = []processFile{
		{"auxv", false, func(f *FS, ino uint64, p *kernel.Process, t *kernel.Thread) vfs.Inode {
			return f.newText(ino, 0o400, func(*vfs.Context) ([]byte, error) { return p.Executable().Auxv, nil })
		}},
		{"children", false, content(children)},
		{"cgroup", false, content(func(p *kernel.Process, t *kernel.Thread, c *vfs.Context) string { return "0::/\n" })},
		{"cmdline", false, cmdline},
		{"comm", false, comm},
		{"coredump_filter", true, setting("00000033\n")},
		{"cpuset", false, fixed("/\n")},
		{"cwd", false, directory((*vfs.Files).CWD)},
		{"environ", false, memory(0o400, func(e *kernel.Executable) (uint64, uint64) { return e.EnvStart, e.EnvEnd })},
		{"exe", false, exe},
		{"fd", false, fds},
		{"fdinfo", false, fdInfos},
		{"gid_map", false, fixed("         0          0 4294967295\n")},
		{"io", false, content(ioCounts)},
		{"limits", false, content(limits)},
		{"loginuid", false, setting("4294967295")},
		{"maps", false, content(maps)},
		{"mem", false, mem},
		{"mountinfo", false, mountList(mountInfo)},
		{"mountstats", true, content(mountStats)},
		{"mounts", false, mountList(func(p *kernel.Process, t *kernel.Thread, c *vfs.Context) string { return mounts(filesOf(p)) })},
		{"net", false, func(f *FS, ino uint64, p *kernel.Process, t *kernel.Thread) vfs.Inode {
			return f.newLink(ino, func(*vfs.Context) (string, error) { return "/proc/net", nil })
		}},
		{"oom_adj", false, oomAdj},
		{"oom_score", false, content(func(p *kernel.Process, t *kernel.Thread, c *vfs.Context) string { return "0\n" })},
		{"oom_score_adj", false, oomScoreAdj},
		{"pagemap", false, pageMap},
		{"personality", false, content(func(p *kernel.Process, t *kernel.Thread, c *vfs.Context) string {
			return fmt.Sprintf("%08x\n", t.Personality())
		})},
		{"projid_map", false, fixed("         0          0 4294967295\n")},
		{"root", false, directory((*vfs.Files).Root)},
		{"schedstat", false, content(func(p *kernel.Process, t *kernel.Thread, c *vfs.Context) string {
			user, system := t.CPUTime()
			return fmt.Sprintf("%d 0 %d\n", user+system, t.Switches.Load()+t.Preemptions.Load())
		})},
		{"sessionid", false, fixed("4294967295")},
		{"setgroups", true, fixed("allow\n")},
		{"smaps", false, content(smaps)},
		{"smaps_rollup", false, content(smapsRollup)},
		{"stat", false, content(stat)},
		{"statm", false, content(statm)},
		{"status", false, content(status)},
		{"task", true, tasks},
		{"timerslack_ns", true, timerSlack},
		{"uid_map", false, fixed("         0          0 4294967295\n")},
		{"wchan", false, content(func(p *kernel.Process, t *kernel.Thread, c *vfs.Context) string { return "0" })},
	}
}

// process returns the directory of a process, or of a thread of it.
func (f *FS) process(p *kernel.Process, t *kernel.Thread, whole bool) vfs.Inode {
	base := dynamicIno | uint64(t.TID)<<kindBits
	if !whole {
		base |= 1 << 39
	}
	d := f.newDir(base, 0o555)
	if whole {
		d.process = p
	}
	own(d, t)
	d.find = func(c *vfs.Context, name string) (vfs.Inode, error) {
		for i, e := range entries {
			if e.name == name && (whole || !e.process) {
				n := e.make(f, base|uint64(i+1), p, t)
				own(n, t)
				return n, nil
			}
		}
		return nil, unix.ENOENT
	}
	d.list = func(c *vfs.Context, after int64, add adder) error {
		for i, e := range entries {
			if int64(i) < after || e.process && !whole {
				continue
			}
			mode, _, _ := e.make(f, 0, p, t).Perm()
			if !add(e.name, base|uint64(i+1), mode, int64(i)+1) {
				return nil
			}
		}
		return nil
	}
	return d
}

// own makes the thread's user the owner of one of its files, which is as old as the thread: every walk makes
// it anew, and its times are to stay (tar says otherwise that the file changed).
func own(i vfs.Inode, t *kernel.Thread) {
	creds := t.Creds()
	born := unix.NsecToTimespec(kernel.WallOffset() + t.StartTime())
	i.(interface {
		Born(at unix.Timespec, uid, gid uint32)
	}).Born(born, creds.EUID, creds.EGID)
}

func filesOf(p *kernel.Process) *vfs.Files {
	if files, ok := p.Attach.(*vfs.Files); ok {
		return files
	}
	return nil
}

type maker = func(f *FS, ino uint64, p *kernel.Process, t *kernel.Thread) vfs.Inode

func content(make func(p *kernel.Process, t *kernel.Thread, c *vfs.Context) string) maker {
	return func(f *FS, ino uint64, p *kernel.Process, t *kernel.Thread) vfs.Inode {
		return f.newText(ino, 0o444, func(c *vfs.Context) ([]byte, error) { return []byte(make(p, t, c)), nil })
	}
}

// mountList is content that changes with the mounts, which poll tells of (proc(5)).
func mountList(make func(p *kernel.Process, t *kernel.Thread, c *vfs.Context) string) maker {
	return func(f *FS, ino uint64, p *kernel.Process, t *kernel.Thread) vfs.Inode {
		return mountsText{content(make)(f, ino, p, t).(*text)}
	}
}

type mountsText struct{ *text }

// Open opens the file.
func (m mountsText) Open(c *vfs.Context, p vfs.Path, flags uint32) (vfs.File, error) {
	if flags&unix.O_ACCMODE != unix.O_RDONLY {
		return nil, unix.EACCES
	}
	ns := c.Files.Namespace()
	o := &openMounts{openText: openText{text: m.text}, ns: ns}
	o.seen.Store(ns.Changes())
	return o, nil
}

// openMounts is an open list of mounts: always readable, and with POLLERR and POLLPRI once after each change.
type openMounts struct {
	openText
	ns   *vfs.Namespace
	seen atomic.Uint64 // changes when a program was last told of any
}

// Readiness says whether there was a change.
func (o *openMounts) Readiness(mask waiter.EventMask) waiter.EventMask {
	r := waiter.ReadableEvents
	if o.seen.Load() != o.ns.Changes() {
		r |= waiter.EventErr | waiter.EventPri
	}
	return r & mask
}

// Reported forgets the changes so far.
func (o *openMounts) Reported(waiter.EventMask) { o.seen.Store(o.ns.Changes()) }

// EventRegister has e told of changes.
func (o *openMounts) EventRegister(e *waiter.Entry) error {
	o.ns.EventRegister(e)
	return nil
}

// EventUnregister undoes EventRegister.
func (o *openMounts) EventUnregister(e *waiter.Entry) { o.ns.EventUnregister(e) }

// integer is a file that shows a number and takes one.
func integer(get func(p *kernel.Process) int, set func(c *vfs.Context, p *kernel.Process, v int) error) maker {
	return func(f *FS, ino uint64, p *kernel.Process, t *kernel.Thread) vfs.Inode {
		n := f.newText(ino, 0o644, func(*vfs.Context) ([]byte, error) { return fmt.Appendln(nil, get(p)), nil })
		n.write = func(c *vfs.Context, text string) error {
			v, err := strconv.Atoi(strings.TrimSpace(text))
			if err != nil {
				return unix.EINVAL
			}
			return set(c, p, v)
		}
		return n
	}
}

// ioCounts is /proc/PID/io. A write to a file that is cut off before it is written back is not taken back: nothing
// is written back that late.
func ioCounts(p *kernel.Process, t *kernel.Thread, c *vfs.Context) string {
	n := p.IO()
	if t != p.Leader() {
		n = t.IO() // in /proc/PID/task
	}
	return fmt.Sprintf("rchar: %d\nwchar: %d\nsyscr: %d\nsyscw: %d\nread_bytes: %d\nwrite_bytes: %d\ncancelled_write_bytes: 0\n",
		n.ReadChars, n.WrittenChars, n.Reads, n.Writes, n.ReadBytes, n.WrittenBytes)
}

// children lists the children that the thread made, which here are those of its process: /proc/PID/task/TID/children.
func children(p *kernel.Process, t *kernel.Thread, c *vfs.Context) string {
	var b strings.Builder
	if t == p.Leader() {
		for _, pid := range p.Children() {
			fmt.Fprintf(&b, "%d ", pid)
		}
	}
	return b.String()
}

// timerSlack is the thread's timer slack; 0 sets its default.
func timerSlack(f *FS, ino uint64, p *kernel.Process, t *kernel.Thread) vfs.Inode {
	n := f.newText(ino, 0o666, func(*vfs.Context) ([]byte, error) { return fmt.Appendln(nil, t.TimerSlack()), nil })
	n.write = func(c *vfs.Context, text string) error {
		v, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
		if err != nil {
			return unix.EINVAL
		}
		if c.Thread != t && !c.Thread.Creds().HasCap(unix.CAP_SYS_NICE) {
			return unix.EPERM
		}
		t.SetTimerSlack(v)
		return nil
	}
	return n
}

// Bounds of the two scales of a process's badness when memory is short (proc_pid_oom_score_adj(5)).
const (
	oomScoreMin, oomScoreMax               = -1000, 1000
	oomDisable, oomAdjustMin, oomAdjustMax = -17, -16, 15
)

func setOOMScore(c *vfs.Context, p *kernel.Process, v int) error {
	if v < oomScoreMin || v > oomScoreMax {
		return unix.EINVAL
	}
	return p.SetOOMScoreAdj(c.Thread, int32(v))
}

var oomScoreAdj = integer(func(p *kernel.Process) int { return int(p.OOMScoreAdj()) }, setOOMScore)

// oomAdj is the same number on the scale of older kernels.
var oomAdj = integer(func(p *kernel.Process) int {
	if v := int(p.OOMScoreAdj()); v != oomScoreMax {
		return v * -oomDisable / oomScoreMax
	}
	return oomAdjustMax
}, func(c *vfs.Context, p *kernel.Process, v int) error {
	switch {
	case v != oomDisable && (v < oomAdjustMin || v > oomAdjustMax):
		return unix.EINVAL
	case v == oomAdjustMax:
		return setOOMScore(c, p, oomScoreMax)
	}
	return setOOMScore(c, p, v*oomScoreMax/-oomDisable)
})

// fixed is a file that always says the same.
func fixed(s string) maker {
	return content(func(*kernel.Process, *kernel.Thread, *vfs.Context) string { return s })
}

// setting is a file that accepts a number and does nothing about it.
func setting(value string) maker {
	return func(f *FS, ino uint64, p *kernel.Process, t *kernel.Thread) vfs.Inode {
		n := f.newText(ino, 0o644, func(*vfs.Context) ([]byte, error) { return []byte(value), nil })
		n.write = func(_ *vfs.Context, v string) error {
			if _, err := strconv.ParseInt(strings.TrimSpace(v), 0, 64); err != nil {
				return unix.EINVAL
			}
			return nil
		}
		return n
	}
}

// maxMemory bounds what one read of cmdline, environ or auxv makes.
const maxMemory = 128 << 10

// memory is a file that shows a piece of the process's memory.
func memory(mode uint32, where func(e *kernel.Executable) (start, end uint64)) maker {
	return func(f *FS, ino uint64, p *kernel.Process, t *kernel.Thread) vfs.Inode {
		return f.newText(ino, mode, func(*vfs.Context) ([]byte, error) {
			start, end := where(p.Executable())
			return peek(p, start, end), nil
		})
	}
}

// peek returns what the process has in [start, end), as far as it can be read, but not more than maxMemory bytes.
func peek(p *kernel.Process, start, end uint64) []byte {
	as := p.AcquireMM()
	if as == nil {
		return nil
	}
	defer as.Release()
	if end <= start {
		return nil
	}
	b := make([]byte, min(end-start, maxMemory))
	n, _ := as.ForcedCopyIn(b, start)
	return b[:n]
}

// cmdline shows the arguments. A program that wrote over their last byte has put one string there, by which it wants to be
// known, and which may go on over its environment (Linux: get_mm_cmdline).
func cmdline(f *FS, ino uint64, p *kernel.Process, t *kernel.Thread) vfs.Inode {
	return f.newText(ino, 0o444, func(*vfs.Context) ([]byte, error) {
		e := p.Executable()
		b := peek(p, e.ArgStart, e.ArgEnd)
		if n := uint64(len(b)); n == 0 || n != e.ArgEnd-e.ArgStart || b[n-1] == 0 {
			return b, nil
		}
		end := e.ArgEnd
		if e.EnvStart == e.ArgEnd && e.EnvEnd >= e.EnvStart {
			end = e.EnvEnd
		}
		b = peek(p, e.ArgStart, end)
		if i := bytes.IndexByte(b, 0); i >= 0 {
			b = b[:i+1]
		}
		return b, nil
	})
}

func comm(f *FS, ino uint64, p *kernel.Process, t *kernel.Thread) vfs.Inode {
	n := f.newText(ino, 0o644, func(*vfs.Context) ([]byte, error) { return []byte(t.Comm() + "\n"), nil })
	n.write = func(_ *vfs.Context, v string) error {
		t.SetComm(strings.TrimSuffix(v, "\n"))
		return nil
	}
	return n
}

func directory(which func(*vfs.Files) vfs.Path) maker {
	return func(f *FS, ino uint64, p *kernel.Process, t *kernel.Thread) vfs.Inode {
		return f.newMagic(ino, 0o777, func() (vfs.Path, error) {
			if files := filesOf(p); files != nil {
				return which(files), nil
			}
			return vfs.Path{}, unix.ENOENT
		})
	}
}

// exe leads to the program itself. Executable.File is its description, open as long as there is an address space.
func exe(f *FS, ino uint64, p *kernel.Process, t *kernel.Thread) vfs.Inode {
	return f.newMagic(ino, 0o777, func() (vfs.Path, error) {
		if p.MM() == nil {
			return vfs.Path{}, unix.ENOENT
		}
		if file, ok := p.Executable().File.(interface{ Path() vfs.Path }); ok {
			return file.Path(), nil
		}
		return vfs.Path{}, unix.ENOENT
	})
}

func fds(f *FS, ino uint64, p *kernel.Process, t *kernel.Thread) vfs.Inode {
	return f.descriptors(ino, p, unix.S_IFLNK|0o700, func(fd int32, d *vfs.Description) vfs.Inode {
		mode := uint32(0)
		if d.Readable() {
			mode |= 0o500
		}
		if d.Writable() {
			mode |= 0o300
		}
		return f.newMagic(dynamicIno<<1|ino<<20|uint64(fd), mode, func() (vfs.Path, error) {
			d, err := filesOf(p).Table().Get(fd)
			if err != nil {
				return vfs.Path{}, unix.ENOENT
			}
			defer d.Decref()
			return d.Path(), nil
		})
	})
}

func fdInfos(f *FS, ino uint64, p *kernel.Process, t *kernel.Thread) vfs.Inode {
	return f.descriptors(ino, p, unix.S_IFREG|0o400, func(fd int32, d *vfs.Description) vfs.Inode {
		return f.newText(dynamicIno<<1|ino<<20|uint64(fd), 0o400, func(*vfs.Context) ([]byte, error) {
			d, err := filesOf(p).Table().Get(fd)
			if err != nil {
				return nil, unix.ENOENT
			}
			defer d.Decref()
			flags := d.Flags()
			if on, _ := filesOf(p).Table().Cloexec(fd); on {
				flags |= unix.O_CLOEXEC
			}
			var a vfs.Attr
			d.Stat(&a)
			s := fmt.Sprintf("pos:\t%d\nflags:\t0%o\nmnt_id:\t%d\nino:\t%d\n", d.Offset(), flags, a.MountID, a.Ino)
			if i, ok := d.File().(vfs.FdInfoer); ok {
				s += i.FdInfo()
			}
			return []byte(s), nil
		})
	})
}

// descriptors is a directory with an entry for each open descriptor.
func (f *FS) descriptors(ino uint64, p *kernel.Process, mode uint32, make func(fd int32, d *vfs.Description) vfs.Inode) vfs.Inode {
	n := f.newDir(ino, 0o500)
	files := filesOf(p)
	if files == nil {
		return n
	}
	n.find = func(c *vfs.Context, name string) (vfs.Inode, error) {
		fd, ok := number(name)
		if !ok {
			return nil, unix.ENOENT
		}
		d, err := files.Table().Get(fd)
		if err != nil {
			return nil, unix.ENOENT
		}
		defer d.Decref()
		return make(fd, d), nil
	}
	n.list = func(c *vfs.Context, after int64, add adder) error {
		numbers(files.Table().List(), 0, mode, after, add)
		return nil
	}
	return n
}

func tasks(f *FS, ino uint64, p *kernel.Process, t *kernel.Thread) vfs.Inode {
	n := f.newDir(ino, 0o555)
	n.find = func(c *vfs.Context, name string) (vfs.Inode, error) {
		tid, ok := number(name)
		if !ok {
			return nil, unix.ENOENT
		}
		for _, t := range p.Threads() {
			if t.TID == tid {
				return f.process(p, t, false), nil
			}
		}
		return nil, unix.ENOENT
	}
	n.list = func(c *vfs.Context, after int64, add adder) error {
		var all []int32
		for _, t := range p.Threads() {
			all = append(all, t.TID)
		}
		numbers(all, 1<<39, unix.S_IFDIR|0o555, after, add)
		return nil
	}
	return n
}

// regions calls yield for the process's mappings.
func regions(p *kernel.Process, yield func(mm.Region)) {
	as := p.AcquireMM()
	if as == nil {
		return
	}
	defer as.Release()
	as.Regions(func(r mm.Region) bool {
		yield(r)
		return true
	})
}

func usage(p *kernel.Process) mm.Usage {
	as := p.AcquireMM()
	if as == nil {
		return mm.Usage{}
	}
	defer as.Release()
	return as.Usage()
}

func mapsLine(b *strings.Builder, r mm.Region) {
	rights := []byte("---p")
	for i, bit := range []int{unix.PROT_READ, unix.PROT_WRITE, unix.PROT_EXEC} {
		if r.Prot&bit != 0 {
			rights[i] = "rwx"[i]
		}
	}
	if r.Shared {
		rights[3] = 's'
	}
	start := b.Len()
	fmt.Fprintf(b, "%08x-%08x %s %08x %02x:%02x %d ", r.Start, r.End, rights, r.Offset, unix.Major(r.Dev), unix.Minor(r.Dev), r.Ino)
	if r.Name != "" {
		for b.Len()-start < 73 {
			b.WriteByte(' ')
		}
		b.WriteString(strings.ReplaceAll(r.Name, "\n", `\012`))
	}
	b.WriteByte('\n')
}

func maps(p *kernel.Process, t *kernel.Thread, c *vfs.Context) string {
	var b strings.Builder
	regions(p, func(r mm.Region) { mapsLine(&b, r) })
	return b.String()
}

// smapsCounts are the lines of smaps that say how much is where, without what is always 0.
func smapsCounts(b *strings.Builder, r mm.Residents, pss, locked uint64, writable bool) {
	resident := r.Anon + r.File + r.Shared
	privateDirty, privateClean := uint64(0), min(r.Alone, r.File)
	if writable {
		privateDirty = r.Alone - privateClean
	} else {
		privateClean = r.Alone
	}
	shared := resident - r.Alone
	for _, l := range []struct {
		name  string
		bytes uint64
	}{
		{"Rss", resident}, {"Pss", pss}, {"Pss_Dirty", privateDirty}, {"Shared_Clean", shared}, {"Shared_Dirty", 0},
		{"Private_Clean", privateClean}, {"Private_Dirty", privateDirty}, {"Referenced", resident}, {"Anonymous", r.Anon},
		{"KSM", 0}, {"LazyFree", 0}, {"AnonHugePages", r.Large}, {"ShmemPmdMapped", 0}, {"FilePmdMapped", 0}, {"Shared_Hugetlb", 0},
		{"Private_Hugetlb", 0}, {"Swap", 0}, {"SwapPss", 0}, {"Locked", locked},
	} {
		fmt.Fprintf(b, "%-16s%8d kB\n", l.name+":", l.bytes/1024)
	}
}

func smaps(p *kernel.Process, t *kernel.Thread, c *vfs.Context) string {
	var b strings.Builder
	eachResident(p, func(r mm.Region, res mm.Residents) {
		mapsLine(&b, r)
		fmt.Fprintf(&b, "Size:           %8d kB\nKernelPageSize:        4 kB\nMMUPageSize:           4 kB\n", (r.End-r.Start)/1024)
		smapsCounts(&b, res, share(res), locked(r, res), r.Prot&unix.PROT_WRITE != 0)
		fmt.Fprintf(&b, "THPeligible:    %8d\nVmFlags:", btoi(r.MayBeLarge))
		for _, f := range []struct {
			on   bool
			name string
		}{
			{r.Prot&unix.PROT_READ != 0, "rd"}, {r.Prot&unix.PROT_WRITE != 0, "wr"}, {r.Prot&unix.PROT_EXEC != 0, "ex"}, {r.Shared, "sh"},
			{true, "mr"}, {true, "mw"}, {true, "me"}, {r.Shared, "ms"}, {r.Stack, "gd"}, {r.File == nil && r.Prot&unix.PROT_WRITE != 0, "ac"}, {r.Locked, "lo"},
			{r.HugePage, "hg"}, {r.NoHugePage, "nh"},
		} {
			if f.on {
				b.WriteString(" " + f.name)
			}
		}
		b.WriteString(" \n")
	})
	return b.String()
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// share estimates the proportional set size: what others have, too, counts half.
func share(r mm.Residents) uint64 { return r.Alone + (r.Anon+r.File+r.Shared-r.Alone)/2 }

// locked returns how much of a mapping's share is locked.
func locked(r mm.Region, res mm.Residents) uint64 {
	if r.Locked {
		return share(res)
	}
	return 0
}

func smapsRollup(p *kernel.Process, t *kernel.Thread, c *vfs.Context) string {
	var sum mm.Residents
	lockedSum := uint64(0)
	start, end := uint64(0), uint64(0)
	eachResident(p, func(r mm.Region, res mm.Residents) {
		if end == 0 {
			start = r.Start
		}
		end = r.End
		lockedSum += locked(r, res)
		sum.Anon, sum.File, sum.Shared, sum.Alone = sum.Anon+res.Anon, sum.File+res.File, sum.Shared+res.Shared, sum.Alone+res.Alone
		sum.Large += res.Large
	})
	var b strings.Builder
	fmt.Fprintf(&b, "%-73s[rollup]\n", fmt.Sprintf("%08x-%08x ---p 00000000 00:00 0", start, end))
	smapsCounts(&b, sum, share(sum), lockedSum, true)
	return b.String()
}

func eachResident(p *kernel.Process, yield func(mm.Region, mm.Residents)) {
	as := p.AcquireMM()
	if as == nil {
		return
	}
	defer as.Release()
	as.Regions(func(r mm.Region) bool {
		yield(r, as.Residents(r.Start, r.End))
		return true
	})
}

func limits(p *kernel.Process, t *kernel.Thread, c *vfs.Context) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-25s %-20s %-20s %-10s\n", "Limit", "Soft Limit", "Hard Limit", "Units")
	show := func(v uint64) string {
		if v == kernel.Infinity {
			return "unlimited"
		}
		return strconv.FormatUint(v, 10)
	}
	for i, l := range [...][2]string{
		unix.RLIMIT_CPU: {"Max cpu time", "seconds"}, unix.RLIMIT_FSIZE: {"Max file size", "bytes"},
		unix.RLIMIT_DATA: {"Max data size", "bytes"}, unix.RLIMIT_STACK: {"Max stack size", "bytes"},
		unix.RLIMIT_CORE: {"Max core file size", "bytes"}, unix.RLIMIT_RSS: {"Max resident set", "bytes"},
		unix.RLIMIT_NPROC: {"Max processes", "processes"}, unix.RLIMIT_NOFILE: {"Max open files", "files"},
		unix.RLIMIT_MEMLOCK: {"Max locked memory", "bytes"}, unix.RLIMIT_AS: {"Max address space", "bytes"},
		unix.RLIMIT_LOCKS: {"Max file locks", "locks"}, unix.RLIMIT_SIGPENDING: {"Max pending signals", "signals"},
		unix.RLIMIT_MSGQUEUE: {"Max msgqueue size", "bytes"}, unix.RLIMIT_NICE: {"Max nice priority", ""},
		unix.RLIMIT_RTPRIO: {"Max realtime priority", ""}, unix.RLIMIT_RTTIME: {"Max realtime timeout", "us"},
	} {
		v, err := p.Limits.Get(i)
		if err == nil {
			fmt.Fprintf(&b, "%-25s %-20s %-20s %-10s\n", l[0], show(v.Cur), show(v.Max), l[1])
		}
	}
	return b.String()
}

// ticks converts nanoseconds to the 100 Hz of /proc.
func ticks(ns int64) int64 { return ns / 1e7 }

func group(p *kernel.Process) (pgid, sid int32) {
	if g := p.Group(); g != nil {
		pgid = g.ID()
		if s := g.Session(); s != nil {
			sid = s.ID()
		}
	}
	return pgid, sid
}

func stat(p *kernel.Process, t *kernel.Thread, c *vfs.Context) string {
	u, e := usage(p), p.Executable()
	pgid, sid := group(p)
	user, system := p.CPUTime()
	childUser, childSystem := p.ChildrenCPUTime()
	var minor, major uint64
	threads := p.Threads()
	for _, t := range threads {
		minor += t.MinorFaults.Load()
		major += t.MajorFaults.Load()
	}
	device, foreground := uint32(0), int32(-1)
	if g := p.Group(); g != nil {
		if t, ok := g.Session().Terminal().(*tty.Terminal); ok {
			device, foreground = t.DeviceWord(), t.Group()
		}
	}
	pending, _, blocked, ignored, caught := t.SignalState()
	s := t.Scheduling()
	priority := 20 + s.Nice
	if s.Priority > 0 {
		priority = -1 - s.Priority
	}
	heap := uint64(0)
	if as := p.AcquireMM(); as != nil {
		heap = as.BrkStart()
		as.Release()
	}
	// Servers read this many times a second.
	b := strconv.AppendInt(make([]byte, 0, 512), int64(t.TID), 10)
	b = append(b, " ("...)
	b = append(b, t.Comm()...)
	b = append(b, ") "...)
	b = append(b, t.State())
	b = appendFields(b, int64(p.ParentPID()), int64(pgid), int64(sid), int64(device), int64(foreground), 4194304, int64(minor), 0, int64(major), 0,
		int64(ticks(user)), int64(ticks(system)), int64(ticks(childUser)), int64(ticks(childSystem)), int64(priority), int64(s.Nice),
		int64(len(threads)), 0, int64(ticks(t.StartTime())), int64(u.Size), int64(u.RSS/4096))
	b = strconv.AppendUint(append(b, ' '), p.Limits.Soft(unix.RLIMIT_RSS), 10)
	const shown = 0x7fffffff
	b = appendFields(b, int64(e.CodeStart), int64(e.CodeEnd), int64(e.StackStart), 0, 0, int64(pending&shown), int64(blocked&shown),
		int64(ignored&shown), int64(caught&shown), 0, 0, 0, 17, 0, int64(s.Priority), int64(s.Policy), 0, 0, 0,
		int64(e.DataStart), int64(e.DataEnd), int64(heap), int64(e.ArgStart), int64(e.ArgEnd), int64(e.EnvStart), int64(e.EnvEnd), 0)
	return string(append(b, '\n'))
}

// appendFields appends numbers, a space before each.
func appendFields(b []byte, list ...int64) []byte {
	for _, v := range list {
		b = strconv.AppendInt(append(b, ' '), v, 10)
	}
	return b
}

func statm(p *kernel.Process, t *kernel.Thread, c *vfs.Context) string {
	u := usage(p)
	return fmt.Sprintf("%d %d %d %d 0 %d 0\n", u.Size/4096, u.RSS/4096, (u.FileRSS+u.Shmem)/4096, u.Exec/4096, (u.Data+u.Stack)/4096)
}

func status(p *kernel.Process, t *kernel.Thread, c *vfs.Context) string {
	var b strings.Builder
	u, creds := usage(p), t.Creds()
	states := map[byte]string{'R': "running", 'S': "sleeping", 'T': "stopped", 'Z': "zombie", 't': "tracing stop"}
	umask, fdSize := uint32(0), 0
	if files := filesOf(p); files != nil {
		umask = files.CurrentUmask()
		fdSize = max(64, 1<<bits.Len(uint(files.Table().Used())))
	}
	fmt.Fprintf(&b, "Name:\t%s\nUmask:\t%04o\nState:\t%c (%s)\nTgid:\t%d\nNgid:\t0\nPid:\t%d\nPPid:\t%d\nTracerPid:\t%d\n",
		t.Comm(), umask, t.State(), states[t.State()], p.PID, t.TID, p.ParentPID(), t.Tracer())
	fmt.Fprintf(&b, "Uid:\t%d\t%d\t%d\t%d\nGid:\t%d\t%d\t%d\t%d\nFDSize:\t%d\nGroups:\t", creds.RUID, creds.EUID, creds.SUID, creds.FSUID,
		creds.RGID, creds.EGID, creds.SGID, creds.FSGID, fdSize)
	for _, g := range creds.Groups {
		fmt.Fprintf(&b, "%d ", g)
	}
	pgid, sid := group(p)
	fmt.Fprintf(&b, "\nNStgid:\t%d\nNSpid:\t%d\nNSpgid:\t%d\nNSsid:\t%d\n", p.PID, t.TID, pgid, sid)
	for _, l := range []struct {
		name  string
		bytes uint64
	}{
		{"VmPeak", u.PeakSize}, {"VmSize", u.Size}, {"VmLck", u.Locked}, {"VmPin", 0}, {"VmHWM", u.PeakRSS}, {"VmRSS", u.RSS},
		{"RssAnon", u.Anon}, {"RssFile", u.FileRSS}, {"RssShmem", u.Shmem}, {"VmData", u.Data}, {"VmStk", u.Stack},
		{"VmExe", u.Exec}, {"VmLib", 0}, {"VmPTE", u.PageTables}, {"VmSwap", 0}, {"HugetlbPages", 0},
	} {
		fmt.Fprintf(&b, "%s:\t%8d kB\n", l.name, l.bytes/1024)
	}
	pending, shared, blocked, ignored, caught := t.SignalState()
	mode, filters := t.Seccomp()
	noNew := btoi(t.NoNewPrivs())
	fmt.Fprintf(&b, "CoreDumping:\t0\nTHP_enabled:\t%d\nThreads:\t%d\nSigQ:\t0/%d\nSigPnd:\t%016x\nShdPnd:\t%016x\nSigBlk:\t%016x\nSigIgn:\t%016x\nSigCgt:\t%016x\n",
		btoi(!u.NoLarge), len(p.Threads()), p.Limits.Soft(unix.RLIMIT_SIGPENDING), uint64(pending), uint64(shared), uint64(blocked), uint64(ignored), uint64(caught))
	fmt.Fprintf(&b, "CapInh:\t%016x\nCapPrm:\t%016x\nCapEff:\t%016x\nCapBnd:\t%016x\nCapAmb:\t%016x\nNoNewPrivs:\t%d\nSeccomp:\t%d\nSeccomp_filters:\t%d\n",
		uint64(creds.Inheritable), uint64(creds.Permitted), uint64(creds.Effective), uint64(creds.Bounding), uint64(creds.Ambient), noNew, mode, filters)
	fmt.Fprintf(&b, "Cpus_allowed:\t1\nCpus_allowed_list:\t0\nMems_allowed:\t1\nMems_allowed_list:\t0\nvoluntary_ctxt_switches:\t%d\nnonvoluntary_ctxt_switches:\t%d\n",
		t.Switches.Load(), t.Preemptions.Load())
	return b.String()
}

// octal writes what would break a line of the mount tables as Linux does.
var octal = strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`)

func mounts(files *vfs.Files) string {
	var b strings.Builder
	if files == nil {
		return ""
	}
	for _, m := range files.Namespace().Mounts(files.Root()) {
		fmt.Fprintf(&b, "%s %s %s %s 0 0\n", octal.Replace(m.Source), octal.Replace(m.Point), m.Type, m.Options)
	}
	return b.String()
}

func mountInfo(p *kernel.Process, t *kernel.Thread, c *vfs.Context) string {
	files := filesOf(p)
	if files == nil {
		return ""
	}
	var b strings.Builder
	for _, m := range files.Namespace().Mounts(files.Root()) {
		propagation := ""
		if m.Unbindable {
			propagation = " unbindable"
		}
		fmt.Fprintf(&b, "%d %d %d:%d %s %s %s%s - %s %s rw\n", m.ID, m.Parent, unix.Major(m.Dev), unix.Minor(m.Dev),
			octal.Replace(m.Root), octal.Replace(m.Point), m.Options, propagation, m.Type, octal.Replace(m.Source))
	}
	return b.String()
}

func mountStats(p *kernel.Process, t *kernel.Thread, c *vfs.Context) string {
	files := filesOf(p)
	if files == nil {
		return ""
	}
	var b strings.Builder
	for _, m := range files.Namespace().Mounts(files.Root()) {
		fmt.Fprintf(&b, "device %s mounted on %s with fstype %s\n", octal.Replace(m.Source), octal.Replace(m.Point), m.Type)
	}
	return b.String()
}
