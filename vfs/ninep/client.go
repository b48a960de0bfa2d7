package ninep

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/kernel/klog"
	"elver/platform/kvm/virtio"
)

// Span is a piece of physical memory.
type Span = virtio.Buffer

// Message is a request and the room for its answer. The pieces that are Spans are for file data, which
// so goes between the server and the page cache without being copied.
type Message struct {
	Head  []byte // of the request
	Out   []Span // what follows Head
	Reply []byte // gets the beginning of the answer
	In    []Span // gets what follows

	// Done is called once, on any goroutine, and doesn't block: when the answer is in the message, with how
	// long that is, not more than there is room for; or with an error, which means that the server isn't
	// reached any more. Until then all of the message's memory is the transport's.
	Done func(n int, err error)
}

// Transport carries messages to a server.
type Transport interface {
	// Send sends m's request. It is called by many goroutines at once.
	Send(m *Message)
	// Stop gives the server up: all messages fail, those that are out and those to come.
	Stop(why string)
	// MaxSpans returns how many Spans a message may have.
	MaxSpans() int
}

const (
	pageBytes = 4096
	// maxPages is how many pages one read or write carries at most.
	maxPages = 128
	// maxCalls is how many messages are on their way at once, those apart that flush others.
	maxCalls = 64
	// smallReply is enough for every answer but those to read, readdir and readlink.
	smallReply = 256
)

// A server that answers nothing is looked at every glance. It is silent after quietGlances of them, taken for
// dead after deadGlances. Glances are counted rather than time, since a machine that was stopped may find much
// of that gone.
const (
	defaultGlance = 5 * time.Second
	quietGlances  = 1
	deadGlances   = 24
)

// client speaks 9P2000.L. Each answer arrives in its own request's memory, so that a wrong one harms
// that request alone.
//
// Who waits for an answer may be killed. Then the message is left: Tflush asks the server to forget it, and
// what it holds - its tag, the frames that it reads or writes, a fid that it makes or gives back - stays its own
// until its end is known (flush(5) of Plan 9; here left and settle).
//
// hugelgupf/p9 has a client, too. It is not used because it knows neither extended attributes nor
// owners, reads into memory of its own, fails all calls with one, and links in packages os and net.
type client struct {
	t      Transport
	pages  int // a read or write carries at most
	calls  sync.Pool
	down   atomic.Bool // the failure was reported
	glance time.Duration

	mu       sync.Mutex // guards what follows
	freeFids []uint32
	lastFid  uint32
	fids     int                 // in use
	limbo    map[uint32]struct{} // fids of messages that were left

	out     [maxCalls]*call      // by tag; nil: the tag is free, or flushes
	tags    []uint16             // the free ones
	waiting []*kernel.Completion // for a tag

	// The watch over a silent server.
	busy     int // messages that it has to answer
	answered uint64
	seen     uint64
	quiet    int // glances without an answer
	watching bool
}

// call is a message under construction, and its answer.
type call struct {
	encoder
	decoder
	m     Message
	reply []byte
	kind  uint8
	names int    // of a walk
	fid   uint32 // that it makes, or gives back; noFid: none

	firm bool // it is waited for even by the killed, as long as the server isn't silent
	by   *kernel.Thread
	tag  uint16
	over kernel.Completion // it is answered, or nobody is to wait any more

	// Guarded by client.mu.
	arrived   bool
	left      int  // what a message that was left still waits for: its answer, that to its Tflush, and end
	forgotten bool // Tflush was answered, and so it won't be
	n         int
	err       error
}

func newClient(t Transport) *client {
	c := &client{t: t, glance: defaultGlance, limbo: make(map[uint32]struct{})}
	c.calls.New = func() any {
		m := &call{reply: make([]byte, smallReply)}
		m.m.Done = func(n int, err error) { c.arrive(m, n, err) }
		return m
	}
	for tag := range uint16(maxCalls) {
		c.tags = append(c.tags, tag)
	}
	c.pages = min(maxPages, t.MaxSpans())
	return c
}

// begin starts a message. end must follow.
func (c *client) begin(kind uint8) *call {
	m := c.calls.Get().(*call)
	m.kind, m.names, m.fid, m.firm = kind, 0, noFid, false
	m.encoder.b = append(m.encoder.b[:0], 0, 0, 0, 0, kind, 0, 0)
	m.m = Message{Reply: m.reply[:smallReply], Done: m.m.Done}
	return m
}

// end ends begin.
func (c *client) end(m *call) {
	c.mu.Lock()
	left, settled := m.left > 0, false
	if left {
		m.left--
		settled = m.left == 0
	}
	c.mu.Unlock()
	switch {
	case settled:
		go c.settle(m)
	case !left:
		c.recycle(m)
	}
}

func (c *client) recycle(m *call) {
	if cap(m.encoder.b) <= 4*pageBytes {
		c.calls.Put(m)
	}
}

var requests atomic.Uint64

// Requests returns how many messages the servers of all shares were sent.
func Requests() uint64 { return requests.Load() }

// do sends m and waits for the answer, whose body is in m's decoder then. The error is the server's, or
// EIO when the answer makes no sense or none can be had, or EINTR for a thread that was killed meanwhile.
func (c *client) do(m *call) error {
	m.by = kernel.Current()
	if !m.firm && m.by != nil && m.by.Killed() {
		return unix.EINTR
	}
	silent, err := c.takeTag(m)
	if err != nil {
		return err
	}
	c.send(m)
	// Those whom a signal ends have no interest in a fid that they give back.
	forgo := m.by != nil && (m.kind == tclunk || silent) && m.by.Doomed()
	if !forgo {
		err = m.over.Wait(m.firm)
	}
	if (forgo || err != nil || !c.hasArrived(m)) && c.leave(m) {
		return unix.EINTR
	}
	c.mu.Lock()
	c.releaseTag(m.tag)
	c.mu.Unlock()
	return c.check(m)
}

// takeTag gives m a tag, and makes it one of those that are out. silent says that the server answers nothing.
func (c *client) takeTag(m *call) (silent bool, err error) {
	for {
		c.mu.Lock()
		if n := len(c.tags); n > 0 {
			m.tag = c.tags[n-1]
			c.tags = c.tags[:n-1]
			m.over.Reset()
			m.arrived, m.left = false, 0
			c.out[m.tag] = m
			c.count()
			silent = c.quiet >= quietGlances
			c.mu.Unlock()
			return silent, nil
		}
		room := new(kernel.Completion)
		c.waiting = append(c.waiting, room)
		c.mu.Unlock()
		if err = room.Wait(m.firm); err == nil {
			continue
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if at := slices.Index(c.waiting, room); at >= 0 {
			c.waiting = slices.Delete(c.waiting, at, at+1)
		} else {
			c.wakeForTag() // this one's turn came all the same
		}
		return false, err
	}
}

// releaseTag makes a tag free. Precondition: mu is held.
func (c *client) releaseTag(tag uint16) {
	c.out[tag] = nil
	c.tags = append(c.tags, tag)
	c.wakeForTag()
}

func (c *client) wakeForTag() {
	if len(c.waiting) > 0 {
		c.waiting[0].Complete()
		c.waiting = slices.Delete(c.waiting, 0, 1)
	}
}

// send sends m, which has a tag.
func (c *client) send(m *call) {
	requests.Add(1)
	wire := m.tag
	if m.kind == tversion {
		wire = noTag
	}
	size := len(m.encoder.b)
	for _, s := range m.m.Out {
		size += int(s.Len)
	}
	le.PutUint32(m.encoder.b, uint32(size))
	le.PutUint16(m.encoder.b[5:], wire)
	m.m.Head = m.encoder.b
	c.t.Send(&m.m)
}

// arrive is m's Done.
func (c *client) arrive(m *call, n int, err error) {
	c.mu.Lock()
	m.arrived, m.n, m.err = true, n, err
	if err == nil {
		c.answered++
	}
	if !m.forgotten {
		c.busy--
	}
	settled := false
	if m.left > 0 {
		m.left--
		settled = m.left == 0
	}
	c.mu.Unlock()
	if settled {
		go c.settle(m)
		return
	}
	m.over.Complete()
}

func (c *client) hasArrived(m *call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return m.arrived
}

// check checks m's answer.
func (c *client) check(m *call) error {
	wire := m.tag
	if m.kind == tversion {
		wire = noTag
	}
	if m.err != nil {
		if c.down.CompareAndSwap(false, true) {
			klog.Errorf("9p: the server is not reached any more: %v", m.err)
		}
		return unix.EIO
	}
	d := &m.decoder
	*d = decoder{b: m.m.Reply[:min(m.n, len(m.m.Reply))]}
	said, kind, got := d.u32(), d.u8(), d.u16()
	if d.bad || said < headerBytes || uint64(said) > uint64(m.n) || got != wire || kind != m.kind+1 && kind != rlerror {
		klog.Warnf("9p: the answer to message %d makes no sense: %d bytes of %d, type %d, tag %d for %d", m.kind, m.n, said, kind, got, wire)
		return unix.EIO
	}
	d.b = d.b[:min(len(d.b), int(said)-headerBytes)]
	if kind == rlerror {
		return serverError(d.u32())
	}
	return nil
}

// serverError returns the error that a server named; EIO for a number that is no program's to see.
func serverError(number uint32) error {
	const last = unix.EHWPOISON
	if number == 0 || number > uint32(last) {
		return unix.EIO
	}
	return unix.Errno(number)
}

// newFid returns a fid that isn't in use.
func (c *client) newFid() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fids++
	if n := len(c.freeFids); n > 0 {
		f := c.freeFids[n-1]
		c.freeFids = c.freeFids[:n-1]
		return f
	}
	c.lastFid++
	return c.lastFid
}

// freeFid makes a fid free that the server doesn't have, unless a message was left that makes it.
func (c *client) freeFid(fid uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.limbo[fid]; !ok {
		c.dropFid(fid)
	}
}

// dropFid is freeFid. Precondition: mu is held.
func (c *client) dropFid(fid uint32) {
	c.fids--
	c.freeFids = append(c.freeFids, fid)
}

// clunk gives fid back. It is gone whatever the server says.
func (c *client) clunk(fid uint32) error {
	m := c.begin(tclunk)
	defer c.end(m)
	m.fid, m.firm = fid, true
	m.encoder.u32(fid)
	err := c.do(m)
	c.freeFid(fid)
	return err
}

// start agrees upon the version and the size of messages.
func (c *client) start() error {
	want := uint32(c.pages*pageBytes + pageBytes)
	m := c.begin(tversion)
	defer c.end(m)
	m.encoder.u32(want)
	m.encoder.str(version)
	if err := c.do(m); err != nil {
		return fmt.Errorf("9p: the server refuses the version %s: %w", version, err)
	}
	size, answer := m.decoder.u32(), m.decoder.str()
	if m.decoder.bad || answer != version {
		return fmt.Errorf("9p: the server speaks %q, not %s", answer, version)
	}
	if size < 2*pageBytes {
		return fmt.Errorf("9p: the server takes messages of %d bytes, %d are needed", size, 2*pageBytes)
	}
	c.pages = int(min(size, want)-writeHeaderBytes-1) / pageBytes
	return nil
}

func (c *client) attach(fid uint32, user uint32, name string) (qid, error) {
	m := c.begin(tattach)
	defer c.end(m)
	m.fid = fid
	m.encoder.u32(fid)
	m.encoder.u32(noFid)
	m.encoder.str("root")
	m.encoder.str(name)
	m.encoder.u32(user)
	if err := c.do(m); err != nil {
		return qid{}, err
	}
	return m.decoder.qid(), m.decoder.err()
}

// walk makes to the file that names lead to from fid, at most maxWalk of them, and returns its qid.
// Without names to is another fid of the same file, and the qid is zero. ENOENT when not all names are
// there.
func (c *client) walk(fid, to uint32, names ...string) (qid, error) {
	m := c.begin(twalk)
	defer c.end(m)
	m.names = len(names)
	if to != fid {
		m.fid = to
	}
	m.encoder.u32(fid)
	m.encoder.u32(to)
	m.encoder.u16(uint16(len(names)))
	for _, n := range names {
		m.encoder.str(n)
	}
	if err := c.do(m); err != nil {
		return qid{}, err
	}
	n := int(m.decoder.u16())
	if n > len(names) || m.decoder.bad {
		return qid{}, unix.EIO
	}
	if n < len(names) {
		return qid{}, unix.ENOENT // and to was not made
	}
	var q qid
	for range n {
		q = m.decoder.qid()
	}
	return q, m.decoder.err()
}

// attributes are the answer to getattr.
type attributes struct {
	qid            qid
	mode, uid, gid uint32
	nlink, rdev    uint64
	size           uint64
	blocks         uint64
	atime, mtime   unix.Timespec
	ctime, btime   unix.Timespec
	hasBirth       bool
}

// Bits of getattr's mask.
const (
	getattrBasic = 0x000007ff
	getattrBirth = 0x00000800
)

func (c *client) getattr(fid uint32) (attributes, error) {
	m := c.begin(tgetattr)
	defer c.end(m)
	m.encoder.u32(fid)
	m.encoder.u64(getattrBasic | getattrBirth)
	if err := c.do(m); err != nil {
		return attributes{}, err
	}
	d := &m.decoder
	stamp := func() unix.Timespec {
		t := unix.Timespec{Sec: int64(d.u64()), Nsec: int64(d.u64())}
		if t.Nsec < 0 || t.Nsec >= 1e9 {
			t.Nsec = 0
		}
		return t
	}
	valid := d.u64()
	a := attributes{qid: d.qid(), mode: d.u32(), uid: d.u32(), gid: d.u32(), nlink: d.u64(), rdev: d.u64(), size: d.u64()}
	d.u64() // preferred size of transfers
	a.blocks = d.u64()
	a.atime, a.mtime, a.ctime, a.btime = stamp(), stamp(), stamp(), stamp()
	a.hasBirth = valid&getattrBirth != 0
	if a.size > 1<<63-1 {
		return a, unix.EIO
	}
	if a.ctime.Sec > 0 && a.ctime.Sec < 1<<33 {
		kernel.RealtimePassed(a.ctime.Nano())
	}
	switch a.mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK:
	default:
		return a, unix.EIO
	}
	return a, d.err()
}

// Bits of setattr's mask.
const (
	setattrMode     = 1 << 0
	setattrUID      = 1 << 1
	setattrGID      = 1 << 2
	setattrSize     = 1 << 3
	setattrAtime    = 1 << 4
	setattrMtime    = 1 << 5
	setattrAtimeSet = 1 << 7
	setattrMtimeSet = 1 << 8
)

// attrChange is what setattr changes; mask says which.
type attrChange struct {
	mask           uint32
	mode, uid, gid uint32
	size           uint64
	atime, mtime   unix.Timespec
}

func (c *client) setattr(fid uint32, a attrChange) error {
	m := c.begin(tsetattr)
	defer c.end(m)
	m.encoder.u32(fid)
	m.encoder.u32(a.mask)
	m.encoder.u32(a.mode)
	m.encoder.u32(a.uid)
	m.encoder.u32(a.gid)
	m.encoder.u64(a.size)
	for _, t := range []unix.Timespec{a.atime, a.mtime} {
		m.encoder.u64(uint64(t.Sec))
		m.encoder.u64(uint64(t.Nsec))
	}
	return c.do(m)
}

func (c *client) open(fid, flags uint32) error {
	m := c.begin(tlopen)
	defer c.end(m)
	m.encoder.u32(fid)
	m.encoder.u32(flags)
	return c.do(m)
}

// create makes a regular file in the directory fid, which becomes the open file.
func (c *client) create(fid uint32, name string, flags, mode, gid uint32) error {
	m := c.begin(tlcreate)
	defer c.end(m)
	m.encoder.u32(fid)
	m.encoder.str(name)
	m.encoder.u32(flags)
	m.encoder.u32(mode)
	m.encoder.u32(gid)
	return c.do(m)
}

func (c *client) symlink(dir uint32, name, target string, gid uint32) error {
	m := c.begin(tsymlink)
	defer c.end(m)
	m.encoder.u32(dir)
	m.encoder.str(name)
	m.encoder.str(target)
	m.encoder.u32(gid)
	return c.do(m)
}

func (c *client) mkdir(dir uint32, name string, mode, gid uint32) error {
	m := c.begin(tmkdir)
	defer c.end(m)
	m.encoder.u32(dir)
	m.encoder.str(name)
	m.encoder.u32(mode)
	m.encoder.u32(gid)
	return c.do(m)
}

func (c *client) link(dir, fid uint32, name string) error {
	m := c.begin(tlink)
	defer c.end(m)
	m.encoder.u32(dir)
	m.encoder.u32(fid)
	m.encoder.str(name)
	return c.do(m)
}

func (c *client) rename(dir uint32, name string, newDir uint32, newName string) error {
	m := c.begin(trenameat)
	defer c.end(m)
	m.encoder.u32(dir)
	m.encoder.str(name)
	m.encoder.u32(newDir)
	m.encoder.str(newName)
	return c.do(m)
}

func (c *client) unlink(dir uint32, name string, flags uint32) error {
	m := c.begin(tunlinkat)
	defer c.end(m)
	m.encoder.u32(dir)
	m.encoder.str(name)
	m.encoder.u32(flags)
	return c.do(m)
}

func (c *client) readlink(fid uint32) (string, error) {
	m := c.begin(treadlink)
	defer c.end(m)
	m.m.Reply = make([]byte, headerBytes+2+unix.PathMax)
	m.encoder.u32(fid)
	if err := c.do(m); err != nil {
		return "", err
	}
	target := m.decoder.str()
	return target, m.decoder.err()
}

// readdir reads entries of the directory fid behind offset into p, and returns them as the server
// packed them.
func (c *client) readdir(fid uint32, offset uint64, p []byte) ([]byte, error) {
	m := c.begin(treaddir)
	defer c.end(m)
	m.m.Reply = p
	m.encoder.u32(fid)
	m.encoder.u64(offset)
	m.encoder.u32(uint32(len(p) - readHeaderBytes))
	if err := c.do(m); err != nil {
		return nil, err
	}
	n := m.decoder.u32()
	entries := m.decoder.take(int(min(n, 1<<30)))
	return entries, m.decoder.err()
}

// read reads into spans from offset on, and returns how many bytes: 0 at the end.
func (c *client) read(fid uint32, offset uint64, spans []Span, n uint32) (uint32, error) {
	m := c.begin(tread)
	defer c.end(m)
	m.m.Reply = m.reply[:readHeaderBytes]
	m.m.In = spans
	m.encoder.u32(fid)
	m.encoder.u64(offset)
	m.encoder.u32(n)
	if err := c.do(m); err != nil {
		return 0, err
	}
	// do saw that the message said to be not longer than what came; so this must not be, either.
	got := m.decoder.u32()
	if said := le.Uint32(m.m.Reply); m.decoder.bad || got > n || got > said-readHeaderBytes {
		return 0, unix.EIO
	}
	if m.by != nil {
		m.by.CountStorage(uint64(got), 0)
	}
	return got, nil
}

// write writes n bytes of spans at offset and returns how many the server took. firm: the data is nowhere
// else, so that even the killed wait.
func (c *client) write(fid uint32, offset uint64, spans []Span, n uint32, firm bool) (uint32, error) {
	m := c.begin(twrite)
	defer c.end(m)
	m.firm = firm
	m.m.Out = spans
	m.encoder.u32(fid)
	m.encoder.u64(offset)
	m.encoder.u32(n)
	if err := c.do(m); err != nil {
		return 0, err
	}
	took := m.decoder.u32()
	if m.decoder.bad || took > n {
		return 0, unix.EIO
	}
	if m.by != nil {
		m.by.CountStorage(0, uint64(took))
	}
	return took, nil
}

func (c *client) fsync(fid uint32, dataOnly bool) error {
	m := c.begin(tfsync)
	defer c.end(m)
	m.encoder.u32(fid)
	if dataOnly {
		m.encoder.u32(1)
	} else {
		m.encoder.u32(0)
	}
	return c.do(m)
}

// fsStat is the answer to statfs.
type fsStat struct {
	blockSize           uint32
	blocks, free, avail uint64
	files, filesFree    uint64
	id                  uint64
	nameMax             uint32
}

func (c *client) statfs(fid uint32) (fsStat, error) {
	m := c.begin(tstatfs)
	defer c.end(m)
	m.encoder.u32(fid)
	if err := c.do(m); err != nil {
		return fsStat{}, err
	}
	d := &m.decoder
	d.u32() // the type of the host's file system
	s := fsStat{d.u32(), d.u64(), d.u64(), d.u64(), d.u64(), d.u64(), d.u64(), d.u32()}
	return s, d.err()
}

// xattrWalk makes to a file that holds the value of the attribute name, or with "" all names, and
// returns how long that is.
func (c *client) xattrWalk(fid, to uint32, name string) (uint64, error) {
	m := c.begin(txattrwalk)
	defer c.end(m)
	m.fid = to
	m.encoder.u32(fid)
	m.encoder.u32(to)
	m.encoder.str(name)
	if err := c.do(m); err != nil {
		return 0, err
	}
	return m.decoder.u64(), m.decoder.err()
}

// xattrCreate makes fid the new value of an attribute, to be written and clunked.
func (c *client) xattrCreate(fid uint32, name string, size uint64, flags uint32) error {
	m := c.begin(txattrcreate)
	defer c.end(m)
	m.encoder.u32(fid)
	m.encoder.str(name)
	m.encoder.u64(size)
	m.encoder.u32(flags)
	return c.do(m)
}
