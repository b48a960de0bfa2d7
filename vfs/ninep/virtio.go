package ninep

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"elver/platform/kvm/virtio"
	"elver/runtime/metal"
)

// featureMountTag is the feature of a virtio-9p device whose configuration is a tag (virtio 1.2, 5.9).
const featureMountTag = 1 << 0

// headFrames is how many frames the heads of a request and its answer take without an allocation.
const headFrames = 1

// device is the Transport over a virtio-9p device.
type device struct {
	virtio *virtio.Device
	queue  *virtio.Queue
	tag    string

	mu   sync.Mutex // guards idle
	idle []*exchange
}

// exchange is the memory of one request on its way.
type exchange struct {
	request virtio.Request
	message *Message
	out, in []uint64 // frames of the heads
}

// openDevice negotiates with a device and reads its tag. Start must follow before it carries messages.
func openDevice(v *virtio.Device) (*device, error) {
	features, err := v.Start(virtio.FeatureIndirect | featureMountTag)
	if err != nil {
		return nil, err
	}
	if features&featureMountTag == 0 {
		return nil, fmt.Errorf("%v: a 9p share without a tag", v)
	}
	var head [2]byte
	if err := v.Config(0, head[:]); err != nil {
		return nil, err
	}
	n := le.Uint16(head[:])
	if n == 0 || n > 255 {
		return nil, fmt.Errorf("%v: the tag of the 9p share has %d bytes", v, n)
	}
	tag := make([]byte, n)
	if err := v.Config(2, tag); err != nil {
		return nil, err
	}
	return &device{virtio: v, tag: string(tag)}, nil
}

// start sets up the queue.
func (d *device) start() error {
	if d.queue != nil {
		return nil
	}
	q, err := d.virtio.NewQueue(0, 0)
	if err != nil {
		return err
	}
	if q.Limit() < 16 {
		return fmt.Errorf("%v: its queue takes %d buffers at once, 16 are needed", d.virtio, q.Limit())
	}
	if err := d.virtio.Run(); err != nil {
		return err
	}
	d.queue = q
	return nil
}

// MaxSpans leaves room for the heads of a message, two frames each.
func (d *device) MaxSpans() int { return min(d.queue.Limit()-4, virtio.MaxIndirect-4) }

// Stop implements Transport.
func (d *device) Stop(why string) { d.virtio.Stop(fmt.Sprintf("%q: %s", d.tag, why)) }

// Send implements Transport.
func (d *device) Send(m *Message) {
	x, err := d.take(m)
	if err != nil {
		m.Done(0, err)
		return
	}
	copyToFrames(x.out, m.Head)
	if err := d.queue.Submit(&x.request); err != nil {
		d.give(x)
		m.Done(0, err)
	}
}

// answered is the Done of an exchange's request.
func (d *device) answered(x *exchange, n uint32, err error) {
	m := x.message
	if err == nil {
		// The server can change its mind as long as it likes: what is looked at is a copy.
		copyFromFrames(m.Reply, x.in)
	}
	d.give(x)
	m.Done(int(n), err)
}

// take returns an exchange with frames for m's heads and the buffers of m.
func (d *device) take(m *Message) (*exchange, error) {
	d.mu.Lock()
	var x *exchange
	if n := len(d.idle); n > 0 {
		x = d.idle[n-1]
		d.idle = d.idle[:n-1]
	}
	d.mu.Unlock()
	if x == nil {
		x = &exchange{}
		x.request.Done = func(_ *virtio.Request, n uint32, err error) { d.answered(x, n, err) }
	}
	x.message = m
	var ok bool
	if x.out, ok = frames(x.out, len(m.Head)); ok {
		x.in, ok = frames(x.in, len(m.Reply))
	}
	if !ok {
		d.give(x)
		return nil, errNoMemory
	}
	x.request.Out = append(heads(x.request.Out[:0], x.out, len(m.Head)), m.Out...)
	x.request.In = append(heads(x.request.In[:0], x.in, len(m.Reply)), m.In...)
	return x, nil
}

var errNoMemory = errors.New("no memory is free for a message")

// give ends take.
func (d *device) give(x *exchange) {
	x.message = nil
	for _, list := range []*[]uint64{&x.out, &x.in} {
		for len(*list) > headFrames {
			last := len(*list) - 1
			metal.Unref((*list)[last])
			*list = (*list)[:last]
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.idle) < maxCalls/4 {
		d.idle = append(d.idle, x)
		return
	}
	for _, list := range [][]uint64{x.out, x.in} {
		for _, frame := range list {
			metal.Unref(frame)
		}
	}
}

// frames grows list until it holds n bytes.
func frames(list []uint64, n int) ([]uint64, bool) {
	for len(list)*metal.FrameSize < n {
		pa, ok := metal.AllocFrame(metal.OwnerKernel)
		if !ok {
			return list, false
		}
		list = append(list, pa)
	}
	return list, true
}

// heads appends the first n bytes of frames to list.
func heads(list []virtio.Buffer, frames []uint64, n int) []virtio.Buffer {
	for _, pa := range frames {
		if n <= 0 {
			break
		}
		k := min(n, metal.FrameSize)
		list = append(list, virtio.Buffer{PA: pa, Len: uint32(k)})
		n -= k
	}
	return list
}

func copyToFrames(frames []uint64, p []byte) {
	for _, pa := range frames {
		p = p[copy(metal.View(pa, metal.FrameSize), p):]
	}
}

func copyFromFrames(p []byte, frames []uint64) {
	for _, pa := range frames {
		p = p[copy(p, metal.View(pa, metal.FrameSize)):]
	}
}

// Shares are the shares of the machine's 9p devices, by their tags.
type Shares struct {
	options Options

	mu   sync.Mutex // guards what follows, and is held while a share is mounted
	tags []string
	all  map[string]*share
}

type share struct {
	device *device
	fs     *FS // mounted now, or nil
}

// NewShares looks at the 9p devices among devices. errs says which cannot be used, and why.
func NewShares(devices []*virtio.Device, o Options) (s *Shares, errs []error) {
	s = &Shares{options: o, all: make(map[string]*share)}
	for _, v := range devices {
		if v.Type != virtio.NineP || !v.Claim() {
			continue
		}
		d, err := openDevice(v)
		switch {
		case err != nil:
			errs = append(errs, err)
		case s.all[d.tag] != nil:
			errs = append(errs, fmt.Errorf("%v: a second 9p share has the tag %q", v, d.tag))
		default:
			s.tags = append(s.tags, d.tag)
			s.all[d.tag] = &share{device: d}
		}
	}
	return s, errs
}

// Tags returns the tags in the order of the devices.
func (s *Shares) Tags() []string { return s.tags }

// Mount mounts the share of that tag, with options as mount(8) has them: a second mount is one of the
// same file system. ENODEV if there is no such share.
func (s *Shares) Mount(tag, options string) (*FS, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	share := s.all[tag]
	if share == nil {
		return nil, fmt.Errorf("9p: there is no share with the tag %q: %w", tag, unix.ENODEV)
	}
	if share.fs != nil {
		return share.fs, nil
	}
	o := s.options
	if err := o.parse(options); err != nil {
		return nil, err
	}
	if err := share.device.start(); err != nil {
		return nil, err
	}
	var fs *FS
	o.onUnmount = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		// A new session with the server would end the fids of files that are still open.
		if fs.Fids() <= 1 {
			share.fs = nil
		}
	}
	var err error
	fs, err = New(share.device, o)
	if err != nil {
		return nil, fmt.Errorf("share %q: %w", tag, err)
	}
	share.fs = fs
	return fs, nil
}

// Sync writes back what all mounted shares have.
func (s *Shares) Sync() {
	for _, fs := range s.mounted() {
		fs.Sync()
	}
}

// DropFids gives back the fids of all mounted shares that are kept for their next use.
func (s *Shares) DropFids() {
	for _, fs := range s.mounted() {
		fs.DropFids()
	}
}

// Fids returns how many fids the servers of all mounted shares have for us, and how many of these are but kept for
// their next use.
func (s *Shares) Fids() (all, kept int) {
	for _, fs := range s.mounted() {
		all += fs.Fids()
		kept += fs.FidsKept()
	}
	return all, kept
}

// Waiting returns how many messages the servers of all mounted shares have to answer.
func (s *Shares) Waiting() int {
	n := 0
	for _, fs := range s.mounted() {
		n += fs.Waiting()
	}
	return n
}

func (s *Shares) mounted() []*FS {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*FS
	for _, share := range s.all {
		if share.fs != nil {
			all = append(all, share.fs)
		}
	}
	return all
}
