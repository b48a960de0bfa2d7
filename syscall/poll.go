package syscall

import (
	"encoding/binary"
	"math/bits"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel"
	"elver/vfs"
)

// A watch is a file that poll or select waits for. waiter's events are poll's bits.
type watch struct {
	entry waiter.Entry
	file  *vfs.Description // nil: there is none
	want  waiter.EventMask
	got   waiter.EventMask
}

const alwaysReported = waiter.EventErr | waiter.EventHUp

// watchAll waits until one of the files is ready, and returns how many are. A signal is ERESTARTNOHAND;
// a deadline that passed is 0 without error.
func watchAll(t *kernel.Thread, watches []watch, deadline kernel.Deadline) (int, error) {
	ready := look(watches)
	if ready > 0 || deadline.Passed() {
		return ready, nil
	}
	t.PrepareBlock()
	registered := 0
	defer func() {
		for i := range watches[:registered] {
			if w := &watches[i]; w.file != nil {
				w.file.EventUnregister(&w.entry)
			}
		}
	}()
	for i := range watches {
		if w := &watches[i]; w.file != nil {
			w.entry.Init(t, w.want|alwaysReported)
			if err := w.file.EventRegister(&w.entry); err != nil {
				return 0, err
			}
		}
		registered++
	}
	for {
		if ready := look(watches); ready > 0 {
			return ready, nil
		}
		switch err := t.Block(deadline); err {
		case nil:
		case unix.ETIMEDOUT:
			return look(watches), nil
		case kernel.ERESTARTSYS:
			if ready := look(watches); ready > 0 {
				return ready, nil
			}
			return 0, kernel.ERESTARTNOHAND
		default:
			return 0, err
		}
	}
}

// look asks every file for its readiness, and returns how many are ready.
func look(watches []watch) int {
	ready := 0
	for i := range watches {
		w := &watches[i]
		if w.file != nil {
			w.got = w.file.Readiness(w.want|alwaysReported) & (w.want | alwaysReported)
		}
		if w.got != 0 {
			if w.file != nil {
				w.file.Reported(w.got) // look's caller returns as soon as one is ready
			}
			ready++
		}
	}
	return ready
}

func dropAll(watches []watch) {
	for i := range watches {
		if d := watches[i].file; d != nil {
			d.Decref()
		}
	}
	clear(watches)
}

// fewFiles is up to how many files poll waits for without an allocation.
const fewFiles = 8

// pollRoom returns room for the structs of size bytes, and for the watches, of count files.
func (l *local) pollRoom(count, size int) ([]byte, []watch) {
	if count > fewFiles {
		return make([]byte, size*count), make([]watch, count)
	}
	if l.watches == nil {
		l.watches = new([fewFiles]watch)
	}
	return l.bytes[:size*count], l.watches[:count]
}

const pollInvalid = waiter.EventMask(unix.POLLNVAL)

// poll(2): what a signal interrupts goes on with the time that is left.
func sysPoll(t *kernel.Thread, a *args) (uint64, error) {
	addr, count, deadline := a.arg(0), a.uint(1), deadlineOfMS(a.int(2))
	n, err := poll(t, addr, count, deadline)
	if err == kernel.ERESTARTNOHAND {
		return 0, t.RestartWith(func(t *kernel.Thread) (uint64, error) { return pollAgain(t, addr, count, deadline) })
	}
	return n, err
}

func pollAgain(t *kernel.Thread, addr uint64, count uint32, deadline kernel.Deadline) (uint64, error) {
	n, err := poll(t, addr, count, deadline)
	if err == kernel.ERESTARTNOHAND {
		return 0, t.RestartWith(func(t *kernel.Thread) (uint64, error) { return pollAgain(t, addr, count, deadline) })
	}
	return n, err
}

// ppoll(2) writes back the time that is left, which glibc hides.
func sysPpoll(t *kernel.Thread, a *args) (uint64, error) {
	deadline, err := deadlineAt(t, a.arg(2))
	if err != nil {
		return 0, err
	}
	return masked(t, a.arg(3), a.arg(4), func() (uint64, error) {
		n, err := poll(t, a.arg(0), a.uint(1), deadline)
		return n, giveTimeLeft(t, a.arg(2), deadline, 1, err)
	})
}

// masked calls f with the signal set at addr, of size bytes, blocked instead of the thread's own. A null
// pointer changes nothing.
func masked(t *kernel.Thread, addr, size uint64, f func() (uint64, error)) (uint64, error) {
	if addr == 0 {
		return f()
	}
	if size != sizeofSigset {
		return 0, unix.EINVAL
	}
	set, err := t.MM().ReadUint64(addr)
	if err != nil {
		return 0, err
	}
	t.SetTemporaryMask(kernel.SigSet(set))
	n, err := f()
	if err != kernel.ERESTARTNOHAND && err != unix.EINTR {
		t.RestoreMask()
	}
	return n, err
}

// giveTimeLeft writes the time that is left of a timeout, whose second half counts unit nanoseconds, and
// returns err. A call whose timeout cannot be updated, or is not to be (personality(2), STICKY_TIMEOUTS), must not be
// restarted (select(2)).
func giveTimeLeft(t *kernel.Thread, addr uint64, deadline kernel.Deadline, unit int64, err error) error {
	if addr != 0 && t.Personality()&perStickyTimeouts != 0 {
		if err == kernel.ERESTARTNOHAND {
			return unix.EINTR
		}
		return err
	}
	if addr == 0 || deadline.IsNever() {
		return err
	}
	left := max(int64(deadline.Left()), 0)
	if e := writePair(t, addr, uint64(left/1e9), uint64(left%1e9/unit)); e != nil && err == kernel.ERESTARTNOHAND {
		return unix.EINTR
	}
	return err
}

func poll(t *kernel.Thread, addr uint64, count uint32, deadline kernel.Deadline) (uint64, error) {
	if uint64(count) > t.Proc.Limits.Soft(unix.RLIMIT_NOFILE) {
		return 0, unix.EINVAL
	}
	const size = 8 // struct pollfd
	l := localOf(t)
	raw, watches := l.pollRoom(int(count), size)
	if err := copyIn(t, raw, addr); err != nil {
		return 0, err
	}
	c := &l.files
	defer dropAll(watches)
	for i := range watches {
		w := &watches[i]
		number := int32(halfword(raw, size*i))
		w.want = waiter.EventMask(binary.LittleEndian.Uint16(raw[size*i+4:]))
		if number < 0 {
			continue
		}
		d, err := c.Get(number)
		if err == nil && d.PathOnly() {
			d.Decref()
			err = unix.EBADF
		}
		if err != nil {
			w.got = pollInvalid
			continue
		}
		w.file = d
	}
	n, err := watchAll(t, watches, deadline)
	if err != nil {
		return 0, err
	}
	for i := range watches {
		binary.LittleEndian.PutUint16(raw[size*i+6:], uint16(watches[i].got))
		// Only revents is written back: other threads may change the rest meanwhile.
		if err := copyOut(t, addr+uint64(size*i+6), raw[size*i+6:size*i+8]); err != nil {
			return 0, err
		}
	}
	return uint64(n), nil
}

// The events that each set of select(2) stands for (Linux: fs/select.c).
var selectEvents = [3]struct{ want, report waiter.EventMask }{
	{waiter.ReadableEvents | pollRDBand, waiter.ReadableEvents | pollRDBand | waiter.EventHUp | waiter.EventErr},
	{waiter.WritableEvents | pollWRBand, waiter.WritableEvents | pollWRBand | waiter.EventErr},
	{waiter.EventPri, waiter.EventPri},
}

// select(2) writes back the time that is left.
func sysSelect(t *kernel.Thread, a *args) (uint64, error) {
	deadline := kernel.Never
	if a.arg(4) != 0 {
		tv, err := timespecAt(t, a.arg(4))
		if err != nil {
			return 0, err
		}
		if tv.Sec < 0 || tv.Nsec < 0 {
			return 0, unix.EINVAL
		}
		tv.Sec, tv.Nsec = tv.Sec+tv.Nsec/1e6, tv.Nsec%1e6 // select takes more than a second of microseconds
		d, err := durationOfTimeval(tv)
		if err != nil {
			return 0, err
		}
		deadline = kernel.After(d)
	}
	n, err := selectFiles(t, a, deadline)
	return n, giveTimeLeft(t, a.arg(4), deadline, 1000, err)
}

// maskAt returns what the pair at addr holds, the address and the size of a signal set: 0 for a null pointer.
func maskAt(t *kernel.Thread, addr uint64) (set, size uint64, err error) {
	if addr == 0 {
		return 0, 0, nil
	}
	pair, err := timespecAt(t, addr) // two longs as well
	return uint64(pair.Sec), uint64(pair.Nsec), err
}

// pselect6(2): the last argument points to the address and the size of the signal set.
func sysPselect6(t *kernel.Thread, a *args) (uint64, error) {
	deadline, err := deadlineAt(t, a.arg(4))
	if err != nil {
		return 0, err
	}
	set, size, err := maskAt(t, a.arg(5))
	if err != nil {
		return 0, err
	}
	return masked(t, set, size, func() (uint64, error) {
		n, err := selectFiles(t, a, deadline)
		return n, giveTimeLeft(t, a.arg(4), deadline, 1, err)
	})
}

// selectFiles is the common part: the number of descriptors and the addresses of the three sets are
// arguments 0 to 3.
func selectFiles(t *kernel.Thread, a *args, deadline kernel.Deadline) (uint64, error) {
	n := int(a.int(0))
	if n < 0 {
		return 0, unix.EINVAL
	}
	n = min(n, int(min(t.Proc.Limits.Soft(unix.RLIMIT_NOFILE), 1<<20))) // Linux: no more than the table has
	words := (n + 63) / 64
	sets := make([]uint64, 3*words)
	b := make([]byte, 8*words)
	for i := range 3 {
		if a.arg(1+i) == 0 {
			continue
		}
		if err := copyIn(t, b, a.arg(1+i)); err != nil {
			return 0, err
		}
		for j := range words {
			sets[i*words+j] = word(b, 8*j)
		}
	}
	if n%64 != 0 {
		for i := range 3 {
			sets[(i+1)*words-1] &= 1<<(n%64) - 1
		}
	}
	var watches []watch
	var numbers []int
	defer func() { dropAll(watches) }()
	c := &localOf(t).files
	for j := range words {
		for all := sets[j] | sets[words+j] | sets[2*words+j]; all != 0; all &= all - 1 {
			bit := bits.TrailingZeros64(all)
			d, err := c.Get(int32(64*j + bit))
			if err != nil {
				return 0, err
			}
			w := watch{file: d}
			for i := range 3 {
				if sets[i*words+j]>>bit&1 != 0 {
					w.want |= selectEvents[i].want
				}
			}
			watches, numbers = append(watches, w), append(numbers, 64*j+bit)
		}
	}
	if _, err := watchAll(t, watches, deadline); err != nil {
		return 0, err
	}
	found := uint64(0)
	result := make([]uint64, len(sets))
	for k, number := range numbers {
		for i := range 3 {
			at, bit := i*words+number/64, number%64
			if sets[at]>>bit&1 != 0 && watches[k].got&selectEvents[i].report != 0 {
				result[at] |= 1 << bit
				found++
			}
		}
	}
	for i := range 3 {
		if a.arg(1+i) == 0 {
			continue
		}
		for j := range words {
			binary.LittleEndian.PutUint64(b[8*j:], result[i*words+j])
		}
		if err := copyOut(t, a.arg(1+i), b); err != nil {
			return 0, err
		}
	}
	return found, nil
}
