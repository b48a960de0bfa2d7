package virtio

import (
	"encoding/binary"
	"errors"
	"sync/atomic"
	"unsafe"

	"elver/runtime/metal"
)

var le = binary.LittleEndian

// Flags of a descriptor (2.7.5), of the available ring (2.7.7) and of the used ring (2.7.8).
const (
	descriptorNext       = 1 << 0
	descriptorWrite      = 1 << 1 // the device writes
	descriptorIndirect   = 1 << 2
	availableNoInterrupt = 1 << 0
	usedNoNotify         = 1 << 0

	eventBytes = 2 // of the index behind either ring, with FeatureEventIdx (2.7.10)

	descriptorBytes = 16
	ringHeaderBytes = 4 // flags and index
	usedBytes       = 8 // of an entry
)

// maxRing is how many descriptors a ring has at most here: table, available ring and used ring fit
// into one frame, with the alignment that a legacy device is told.
const (
	maxRing   = 128
	ringAlign = 64
)

// ring is a split virtqueue's memory (2.7), one frame: the descriptor table, the available ring, and
// the used ring, which alone the device writes. Table and available ring are written here and never
// read back.
type ring struct {
	size      int // descriptors, a power of 2
	pa        uint64
	memory    []byte
	available int // offsets in memory
	used      int
	flags     uint32 // of the available ring
}

var errNoFrame = errors.New("virtio: no memory is free for a virtqueue")

func newRing(size int) (*ring, error) {
	pa, ok := metal.AllocFrame(metal.OwnerKernel)
	if !ok {
		return nil, errNoFrame
	}
	metal.Zero(pa, metal.FrameSize)
	r := &ring{size: size, pa: pa, memory: metal.View(pa, metal.FrameSize)}
	r.available = size * descriptorBytes
	r.used = (r.available + ringHeaderBytes + 2*size + eventBytes + ringAlign - 1) &^ (ringAlign - 1)
	return r, nil
}

func (r *ring) free() { metal.Unref(r.pa) }

func putDescriptor(p []byte, pa uint64, n uint32, flags, next uint16) {
	le.PutUint64(p, pa)
	le.PutUint32(p[8:], n)
	le.PutUint16(p[12:], flags)
	le.PutUint16(p[14:], next)
}

func (r *ring) setDescriptor(i int, pa uint64, n uint32, flags, next uint16) {
	putDescriptor(r.memory[i*descriptorBytes:], pa, n, flags, next)
}

// word returns the word of flags (low half) and index (high half) with which both rings begin.
func (r *ring) word(at int) *uint32 { return (*uint32)(unsafe.Pointer(&r.memory[at])) }

// publish makes the chain that begins at head available; index counts all that ever were. The exchange
// is a full barrier: the device sees the descriptors before the index, and the used ring's flags are
// read after (2.7.13.3, 2.7.13.4.1).
func (r *ring) publish(index, head uint16) {
	le.PutUint16(r.memory[r.available+ringHeaderBytes+2*int(index%uint16(r.size)):], head)
	atomic.SwapUint32(r.word(r.available), uint32(index+1)<<16|r.flags)
}

// setInterrupts asks, without FeatureEventIdx, for interrupts or for none (2.7.7.1); index chains were made
// available. The exchange is a full barrier, as setUsedEvent's.
func (r *ring) setInterrupts(on bool, index uint16) {
	flags := uint32(availableNoInterrupt)
	if on {
		flags = 0
	}
	if r.flags != flags {
		r.flags = flags
		atomic.SwapUint32(r.word(r.available), uint32(index)<<16|flags)
	}
}

// wantsNotice says whether the device wants to be told of new buffers.
func (r *ring) wantsNotice() bool { return atomic.LoadUint32(r.word(r.used))&usedNoNotify == 0 }

// usedIndex returns how many chains the device ever returned.
func (r *ring) usedIndex() uint16 { return uint16(atomic.LoadUint32(r.word(r.used)) >> 16) }

// usedEntry returns the chain that was returned as number index, and how many bytes the device says
// that it wrote.
func (r *ring) usedEntry(index uint16) (head, written uint32) {
	p := r.memory[r.used+ringHeaderBytes+usedBytes*int(index%uint16(r.size)):]
	return le.Uint32(p), le.Uint32(p[4:])
}

// wantsNoticeOf says, with FeatureEventIdx, whether the device wants to be told that the chains from
// number old up to index are available (2.7.10.1).
func (r *ring) wantsNoticeOf(old, index uint16) bool {
	at := r.used + ringHeaderBytes + usedBytes*r.size
	event := uint16(atomic.LoadUint32((*uint32)(unsafe.Pointer(&r.memory[at]))))
	return index-event-1 < index-old
}

// setUsedEvent asks, with FeatureEventIdx, for an interrupt when chain number index is returned (2.7.7.1).
// The exchange is a full barrier: whether that has happened already is to be looked at after.
func (r *ring) setUsedEvent(index uint16) {
	at := r.available + ringHeaderBytes + 2*r.size
	atomic.SwapUint32((*uint32)(unsafe.Pointer(&r.memory[at])), uint32(index))
}
