package elf

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"elver/kernel/mm"
)

// Bounds of what a program may be given (execve(2), "Limits on size of arguments and environment").
const (
	maxString   = 128 << 10 // of one string, its zero byte included
	minAllArgs  = 128 << 10 // in spite of a small stack limit
	maxAllArgs  = 6 << 20   // in spite of a large one: three quarters of 8 MiB
	stackAhead  = 128 << 10 // what the stack has beyond the strings at first
	platform    = "x86_64"
	clockTicks  = 100
	rseqSize    = 28 // of struct rseq up to mm_cid (rseq(2))
	rseqAlign   = 32
	randomBytes = 16
)

// Types of auxiliary vector entries (getauxval(3)).
const (
	atNull            = 0
	atPHDR            = 3
	atPHEnt           = 4
	atPHNum           = 5
	atPageSize        = 6
	atBase            = 7
	atFlags           = 8
	atEntry           = 9
	atUID             = 11
	atEUID            = 12
	atGID             = 13
	atEGID            = 14
	atPlatform        = 15
	atHWCap           = 16
	atClockTicks      = 17
	atSecure          = 23
	atRandom          = 25
	atHWCap2          = 26
	atRseqFeatureSize = 27
	atRseqAlign       = 28
	atExecFn          = 31
	atSysinfoEHdr     = 33
	atMinSigStackSize = 51
)

// stack is the initial stack's contents before they have addresses. From the top down: eight zero
// bytes, the path, the environment, the arguments; then, at an address that is random within two
// pages, platform, random bytes, the auxiliary vector, the pointers and the count.
type stack struct {
	path      string
	args, env []string
	argBytes  uint64 // of the strings, zero bytes included
	envBytes  uint64
	pointers  uint64 // bytes of argc and the pointers
}

// measure checks the strings against Linux's limits and says how much room they need: E2BIG.
func (p *Params) measure(name string, args []string) (*stack, error) {
	s := &stack{path: p.Path, args: args, env: p.Env}
	limit := min(max(p.StackLimit/4, minAllArgs), maxAllArgs)
	add := func(strings []string, what string) (uint64, error) {
		sum := uint64(0)
		for _, v := range strings {
			if len(v) >= maxString {
				return 0, refuse(unix.E2BIG, "%s: %s of %d bytes is longer than the %d that are allowed", name, what, len(v), maxString-1)
			}
			sum += uint64(len(v)) + 1
		}
		return sum, nil
	}
	var err error
	if s.argBytes, err = add(args, "an argument"); err != nil {
		return nil, err
	}
	if s.envBytes, err = add(p.Env, "an environment string"); err != nil {
		return nil, err
	}
	s.pointers = 8 * uint64(1+len(args)+1+len(p.Env)+1)
	need := s.argBytes + s.envBytes + uint64(len(p.Path)) + 1 + 8*uint64(len(args)+len(p.Env))
	if need > limit {
		return nil, refuse(unix.E2BIG, "%s: its arguments and environment have %d bytes with their pointers; %d are allowed, a quarter of the stack's limit", name, need, limit)
	}
	return s, nil
}

// reserve returns how much stack is mapped at first.
func (s *stack) reserve(limit uint64) uint64 {
	const rest = 2*mm.PageSize + 1024 // the random shift, the auxiliary vector and what it points to
	need := pageEnd(s.argBytes + s.envBytes + uint64(len(s.path)) + s.pointers + rest)
	return max(need, min(need+stackAhead, limit&^pageMask))
}

// writeStack fills the stack and completes im.
func (p *loading) writeStack(im *Image, s *stack, main *program, vdso uint64) error {
	execFn := im.Layout.StackTop - 8 - uint64(len(s.path)) - 1
	im.EnvEnd = execFn
	im.EnvStart = im.EnvEnd - s.envBytes
	im.ArgEnd = im.EnvStart
	im.ArgStart = im.ArgEnd - s.argBytes

	// CPUs with hyper-threading share caches better if their stacks differ in the lower bits.
	sp := im.ArgStart
	if !p.FixedLayout {
		sp -= p.Random() % (2 * mm.PageSize)
	}
	platformAt := sp&^15 - uint64(len(platform)) - 1
	randomAt := platformAt - randomBytes

	vector := vector{make([]byte, 0, 16*24)}
	if vdso != 0 {
		vector.add(atSysinfoEHdr, vdso)
	}
	vector.add(atMinSigStackSize, p.SignalFrame)
	vector.add(atHWCap, p.HWCap)
	vector.add(atPageSize, mm.PageSize)
	vector.add(atClockTicks, clockTicks)
	vector.add(atPHDR, main.tableAddress()+im.Bias)
	vector.add(atPHEnt, segmentSize)
	vector.add(atPHNum, uint64(main.count))
	vector.add(atBase, im.Base)
	vector.add(atFlags, 0)
	vector.add(atEntry, main.entry+im.Bias)
	vector.add(atUID, uint64(p.UID))
	vector.add(atEUID, uint64(p.EUID))
	vector.add(atGID, uint64(p.GID))
	vector.add(atEGID, uint64(p.EGID))
	secure := uint64(0)
	if p.Secure {
		secure = 1
	}
	vector.add(atSecure, secure)
	vector.add(atRandom, randomAt)
	vector.add(atHWCap2, p.HWCap2)
	vector.add(atExecFn, execFn)
	vector.add(atPlatform, platformAt)
	vector.add(atRseqFeatureSize, rseqSize)
	vector.add(atRseqAlign, rseqAlign)
	vector.add(atNull, 0)
	im.Auxv = vector.bytes

	im.StackPointer = (randomAt - s.pointers - uint64(len(im.Auxv))) &^ 15
	im.StackStart = im.StackPointer
	im.AuxvStart = im.StackPointer + s.pointers
	im.AuxvEnd = im.AuxvStart + uint64(len(im.Auxv))

	w := stackWriter{space: p.Space, at: im.StackPointer}
	w.word(uint64(len(s.args)))
	w.pointersTo(s.args, im.ArgStart)
	w.pointersTo(s.env, im.EnvStart)
	w.put(im.Auxv)
	w.skipTo(randomAt)
	for range randomBytes / 8 {
		w.word(p.Random())
	}
	w.string(platform)
	w.skipTo(im.ArgStart)
	for _, v := range s.args {
		w.string(v)
	}
	for _, v := range s.env {
		w.string(v)
	}
	w.string(s.path)
	w.word(0)
	if w.flush() != nil {
		return failed(copyError(p.Space), "%s: its stack cannot be written", im.Path)
	}
	return nil
}

// vector is an auxiliary vector under construction.
type vector struct{ bytes []byte }

func (v *vector) add(kind, value uint64) {
	v.bytes = binary.LittleEndian.AppendUint64(v.bytes, kind)
	v.bytes = binary.LittleEndian.AppendUint64(v.bytes, value)
}

// stackWriter writes to ascending addresses in pieces of at most a page. The first error stays.
type stackWriter struct {
	space  *mm.AddressSpace
	at     uint64 // where buffer goes
	n      int
	err    error
	buffer [mm.PageSize]byte
}

func (w *stackWriter) put(p []byte) {
	for len(p) > 0 {
		if w.n == len(w.buffer) {
			w.flush()
		}
		k := copy(w.buffer[w.n:], p)
		w.n += k
		p = p[k:]
	}
}

func (w *stackWriter) word(v uint64) {
	var word [8]byte
	binary.LittleEndian.PutUint64(word[:], v)
	w.put(word[:])
}

// string writes s and a zero byte.
func (w *stackWriter) string(s string) {
	for len(s) > 0 {
		if w.n == len(w.buffer) {
			w.flush()
		}
		k := copy(w.buffer[w.n:], s)
		w.n += k
		s = s[k:]
	}
	w.put(zeroes[:1])
}

// pointersTo writes the addresses of strings that stand one behind the other from at, and a null.
func (w *stackWriter) pointersTo(strings []string, at uint64) {
	for _, s := range strings {
		w.word(at)
		at += uint64(len(s)) + 1
	}
	w.word(0)
}

// skipTo leaves out what lies before addr: the stack is zero there.
func (w *stackWriter) skipTo(addr uint64) {
	w.flush()
	w.at = addr
}

func (w *stackWriter) flush() error {
	if w.err == nil && w.n > 0 {
		_, w.err = w.space.ForcedCopyOut(w.at, w.buffer[:w.n])
		w.at += uint64(w.n)
	}
	w.n = 0
	return w.err
}
