package inet

import (
	"encoding/binary"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"elver/kernel/mm"
	"elver/runtime/metal"
	"elver/vfs"
)

// Rings of packet sockets (PACKET_RX_RING in packet(7), Documentation/networking/packet_mmap.rst), of version
// TPACKET_V2: memory of frames that the program maps. The kernel fills one after the other; the first word of
// each says whose it is.

const (
	tpacketV2       = 1
	ringHeaderBytes = 32                                  // struct tpacket2_hdr
	ringPrefix      = ringHeaderBytes + sizeofLinkAddress // TPACKET2_HDRLEN
	ringAlign       = 16
	mostRing        = 256 << 20 // bytes

	statusKernel = 0
	statusUser   = 1 << 0
	statusLosing = 1 << 2
)

// packetRing is a ring: a file as far as mappings are concerned.
type packetRing struct {
	number uint64
	refs   atomic.Int64 // the socket and its mappings
	pages  []uint64

	// The socket's lock guards what follows.
	blockSize, frameSize, perBlock, count int
	next                                  int // the frame to fill next
	losing                                bool
}

var (
	lastRing   atomic.Uint64
	ringDevice = vfs.NewDev()
)

// setRing is PACKET_RX_RING: a ring as struct tpacket_req asks for, or none for no blocks. EBUSY, EINVAL,
// ENOMEM.
func (s *packetSocket) setRing(value []byte) error {
	if len(value) < 16 {
		return unix.EINVAL
	}
	word := func(i int) int { return int(binary.LittleEndian.Uint32(value[4*i:])) }
	r := &packetRing{number: lastRing.Add(1), blockSize: word(0), frameSize: word(2), count: word(3)}
	blocks := word(1)
	s.mu.Lock()
	version, reserve := s.version, s.reserve
	s.mu.Unlock()
	if blocks > 0 {
		if version != tpacketV2 || r.blockSize <= 0 || r.blockSize%metal.FrameSize != 0 || r.frameSize%ringAlign != 0 ||
			r.frameSize < ringPrefix+ringAlign+reserve || r.blockSize < r.frameSize {
			return unix.EINVAL
		}
		r.perBlock = r.blockSize / r.frameSize
		if r.blockSize > mostRing || blocks > mostRing/r.blockSize || blocks*r.perBlock != r.count {
			return unix.EINVAL
		}
	} else if r.count != 0 {
		return unix.EINVAL
	}
	r.refs.Store(1)
	for range blocks * r.blockSize / metal.FrameSize {
		pa, ok := mm.AllocFrame(metal.OwnerProgram)
		if !ok {
			r.MapClose()
			return unix.ENOMEM
		}
		metal.Zero(pa, metal.FrameSize)
		r.pages = append(r.pages, pa)
		metal.CondResched()
	}
	s.mu.Lock()
	old := s.ring
	if old != nil && (blocks > 0 || old.refs.Load() > 1) {
		s.mu.Unlock()
		r.MapClose()
		return unix.EBUSY
	}
	if s.ring = r; blocks == 0 {
		s.ring = nil
	}
	s.mu.Unlock()
	if old != nil {
		old.MapClose()
	}
	return nil
}

// Mappable returns the ring: EINVAL if there is none.
func (s *packetSocket) Mappable(*vfs.Context) (mm.Mappable, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ring == nil {
		return nil, unix.EINVAL
	}
	return s.ring, nil
}

// MapFrame returns a page of the ring.
func (r *packetRing) MapFrame(off uint64, _ bool) (uint64, error) {
	if off/metal.FrameSize >= uint64(len(r.pages)) {
		return 0, unix.EFAULT
	}
	pa := r.pages[off/metal.FrameSize]
	metal.Ref(pa)
	return pa, nil
}

// MapName returns the name that Linux shows.
func (r *packetRing) MapName() string { return "socket:[packet]" }

// Ident tells rings apart.
func (r *packetRing) Ident() (dev, ino uint64) { return ringDevice, r.number }

// MapOpen holds the pages for a mapping.
func (r *packetRing) MapOpen() { r.refs.Add(1) }

// MapClose lets them go.
func (r *packetRing) MapClose() {
	if r.refs.Add(-1) != 0 {
		return
	}
	for _, pa := range r.pages {
		metal.Unref(pa)
	}
}

// at returns where frame i begins.
func (r *packetRing) at(i int) int { return i/r.perBlock*r.blockSize + i%r.perBlock*r.frameSize }

// word returns the word at off, which the program may write at any time.
func (r *packetRing) word(off int) uint32 {
	return binary.LittleEndian.Uint32(metal.View(r.pages[off/metal.FrameSize], metal.FrameSize)[off%metal.FrameSize:])
}

// write copies p to off, across pages.
func (r *packetRing) write(off int, p []byte) {
	for len(p) > 0 {
		n := copy(metal.View(r.pages[off/metal.FrameSize], metal.FrameSize)[off%metal.FrameSize:], p)
		p = p[n:]
		off += n
	}
}

// filled says whether the frame that was filled last is the program's yet.
func (r *packetRing) filled() bool {
	return r.word(r.at((r.next+r.count-1)%r.count)) != statusKernel
}

// put fills a frame, if the next one is the kernel's.
func (r *packetRing) put(s *packetSocket, f *frame) bool {
	at := r.at(r.next)
	if r.word(at) != statusKernel {
		r.losing = true
		return false
	}
	// The network's header is aligned, and the link's stands before it.
	network := (ringPrefix+max(f.network, ringAlign)+ringAlign-1)&^(ringAlign-1) + s.reserve
	if s.cooked() {
		network = (ringPrefix+ringAlign-1)&^(ringAlign-1) + ringAlign + s.reserve
	}
	begin := network - f.network
	if begin > r.frameSize {
		return false
	}
	n := min(len(f.data), r.frameSize-begin)
	r.write(at+begin, f.data[:n])
	var h [ringPrefix]byte
	le := binary.LittleEndian
	le.PutUint32(h[4:], uint32(f.length))
	le.PutUint32(h[8:], uint32(n))
	le.PutUint16(h[12:], uint16(begin))
	le.PutUint16(h[14:], uint16(network))
	le.PutUint32(h[16:], uint32(f.at/1e9))
	le.PutUint32(h[20:], uint32(f.at%1e9))
	copy(h[ringHeaderBytes:], s.appendPacketAddress(nil, f.protocol, f.nic, f.kind, f.from))
	r.write(at+4, h[4:])
	status := uint32(statusUser)
	if r.losing {
		status |= statusLosing
		r.losing = false
	}
	r.write(at, le.AppendUint32(nil, status)) // last: the frame is the program's
	r.next = (r.next + 1) % r.count
	return true
}
