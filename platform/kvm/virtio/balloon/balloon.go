// Package balloon drives virtio memory balloons (virtio 1.2, 5.5): memory that the host borrows from the
// machine.
//
// The host says how large the balloon is to be. The driver takes frames that are free, or that Config.Reclaim
// frees, as the program would: never of the kernel's reserve. It gives frames back when the host wants less,
// and where the host lets it (DEFLATE_ON_OOM) when the machine is short of them: Deflate is for that.
//
// What the balloon holds it notes in frames of its own, which the device reads as they are: for a gigabyte,
// one mebibyte.
//
// Lock order: Config.Reclaim may take any; Balloon.mu is taken without them, and is a leaf but for the
// device's.
package balloon

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"elver/platform/kvm/virtio"
	"elver/runtime/metal"
)

// Features (5.5.3).
const (
	featureTellHost     = 1 << 0 // the host is to know before a frame is used again: it always is told here
	featureStatistics   = 1 << 1
	featureDeflateOnOOM = 1 << 2
)

// Offsets in the configuration (5.5.4): frames wanted, frames held.
const (
	configWanted = 0
	configHeld   = 4
)

// Queues (5.5.2).
const (
	inflateQueue = iota
	deflateQueue
	statisticsQueue
)

const (
	step       = 256 // frames at once
	slack      = 256 // frames above the reserve that stay free
	numberSize = 4
	// perNote is how many numbers of frames a note holds.
	perNote = metal.FrameSize / numberSize
	answer  = 10 * time.Second
	// While there is no memory to take, the balloon looks again after that, and then more rarely.
	firstRetry = 200 * time.Millisecond
	lastRetry  = 10 * time.Second
)

// Config is what a balloon stands on.
type Config struct {
	// Reclaim frees about that many frames that only save work, and returns how many.
	Reclaim func(frames int) int
}

// Balloon is a device.
type Balloon struct {
	device     *virtio.Device
	config     Config
	inflating  *virtio.Queue
	deflating  *virtio.Queue
	statistics *virtio.Queue
	onOOM      bool
	wake       chan struct{} // a token: the host's wish may have changed

	mu     sync.Mutex // guards what follows; held while the device is asked
	notes  []uint64   // frames that hold the numbers of the frames in the balloon, perNote each but the last
	held   int
	broken bool
	wanted int // what the host wanted last
	// content says that the program has taken memory back: the balloon grows no more until the host
	// wants something else.
	content bool
}

// Open starts a device, and serves the host's wishes from then on.
func Open(v *virtio.Device, config Config) (*Balloon, error) {
	features, err := v.Start(featureTellHost | featureStatistics | featureDeflateOnOOM)
	if err != nil {
		return nil, err
	}
	b := &Balloon{device: v, config: config, onOOM: features&featureDeflateOnOOM != 0, wake: make(chan struct{}, 1)}
	if b.inflating, err = v.NewQueue(inflateQueue, 1); err != nil {
		return nil, err
	}
	if b.deflating, err = v.NewQueue(deflateQueue, 1); err != nil {
		return nil, err
	}
	if features&featureStatistics != 0 {
		if b.statistics, err = v.NewQueue(statisticsQueue, 1); err != nil {
			return nil, err
		}
	}
	v.OnConfigChange(func() {
		select {
		case b.wake <- struct{}{}:
		default:
		}
	})
	if err := v.Run(); err != nil {
		return nil, err
	}
	if b.statistics != nil {
		b.report()
	}
	go b.serve()
	b.wake <- struct{}{}
	return b, nil
}

// serve follows the host's wishes, for ever.
func (b *Balloon) serve() {
	retry := time.NewTimer(time.Hour)
	wait := firstRetry
	for {
		retry.Stop()
		again := b.follow()
		if again {
			retry.Reset(wait)
			wait = min(2*wait, lastRetry)
		}
		select {
		case <-b.wake:
			wait = firstRetry
		case <-retry.C:
		}
	}
}

// follow makes the balloon as large as the host wants, and says whether it is worth while to try again later.
func (b *Balloon) follow() (again bool) {
	for {
		var word [4]byte
		if b.device.Config(configWanted, word[:]) != nil {
			return false
		}
		wanted := int(binary.LittleEndian.Uint32(word[:]))
		b.mu.Lock()
		if wanted != b.wanted { // a change is told of at other times too
			b.wanted, b.content = wanted, false
		}
		more, done := wanted-b.held, false
		switch {
		case b.broken || more == 0 || more > 0 && b.content:
			b.mu.Unlock()
			return false
		case more < 0:
			b.deflate(-more)
		default:
			done = b.inflate(more) > 0
		}
		b.mu.Unlock()
		if more > 0 && !done && b.config.Reclaim(min(more, step)) == 0 {
			return true
		}
		metal.CondResched()
	}
}

// inflate takes up to n frames, and returns how many. Precondition: mu is held.
func (b *Balloon) inflate(n int) (took int) {
	at := b.held % perNote
	n = min(n, step, perNote-at)
	if at == 0 {
		// Its account is the balloon's: nor is it the machine's while that is large.
		note, ok := frame()
		if !ok {
			return 0
		}
		b.notes = append(b.notes, note)
	}
	note := b.notes[len(b.notes)-1]
	numbers := metal.View(note, metal.FrameSize)
	for took < n {
		pa, ok := frame()
		if !ok {
			break
		}
		if pa/metal.FrameSize > 1<<32-1 { // the device can't be told of it
			metal.Unref(pa)
			break
		}
		binary.LittleEndian.PutUint32(numbers[(at+took)*numberSize:], uint32(pa/metal.FrameSize))
		took++
	}
	if took > 0 {
		b.held += took
		b.ask(b.inflating, note, at, took)
	}
	b.trim()
	return took
}

// frame takes a frame that is free, and leaves some.
func frame() (pa uint64, ok bool) {
	if f := metal.Frames(); f.Free <= f.Reserve+slack {
		return 0, false
	}
	return metal.AllocFrame(metal.OwnerBalloon)
}

// deflate gives up to n frames back, and returns how many. Precondition: mu is held.
func (b *Balloon) deflate(n int) (gave int) {
	for gave < n && b.held > 0 && !b.broken {
		end := (b.held-1)%perNote + 1 // numbers of the last note
		k := min(n-gave, step, end)
		note := b.notes[len(b.notes)-1]
		if !b.ask(b.deflating, note, end-k, k) {
			return gave + b.held // the device has stopped: all came back
		}
		b.release(k)
		gave += k
	}
	return gave
}

// release frees the k frames that were taken last, which stand in one note. Precondition: mu is held.
func (b *Balloon) release(k int) {
	end := (b.held-1)%perNote + 1
	numbers := metal.View(b.notes[len(b.notes)-1], metal.FrameSize)
	for i := end - k; i < end; i++ {
		metal.Unref(uint64(binary.LittleEndian.Uint32(numbers[i*numberSize:])) * metal.FrameSize)
	}
	b.held -= k
	b.trim()
}

// trim frees a note that holds nothing. Precondition: mu is held.
func (b *Balloon) trim() {
	for n := len(b.notes); n > 0 && b.held <= (n-1)*perNote; n-- {
		metal.Unref(b.notes[n-1])
		b.notes = b.notes[:n-1]
	}
}

// ask tells the device of the n frames whose numbers stand in note from number at on, waits until it knows,
// and says whether it does. A device that doesn't answer is stopped; the frames are the machine's again.
//
// Precondition: mu is held.
func (b *Balloon) ask(q *virtio.Queue, note uint64, at, n int) bool {
	answered := make(chan error, 1)
	r := &virtio.Request{
		Out:  []virtio.Buffer{{PA: note + uint64(at*numberSize), Len: uint32(n * numberSize)}},
		Done: func(_ *virtio.Request, _ uint32, err error) { answered <- err },
	}
	err := q.Add(r)
	if err == nil {
		q.Notify()
		over := time.NewTimer(answer)
		defer over.Stop()
		select {
		case err = <-answered:
		case <-over.C:
			b.device.Stop(fmt.Sprintf("the balloon was not answered within %v", answer))
			err = <-answered
		}
	}
	if err != nil {
		b.broken = true
		for b.held > 0 {
			b.release((b.held-1)%perNote + 1)
		}
		return false
	}
	held := b.held
	if q == b.deflating {
		held -= n
	}
	b.device.SetConfig32(configHeld, uint32(held))
	return true
}

// Deflate gives back about n frames because the machine is short of them, if the host agreed to that, and
// returns how many. The balloon stays that small until the host wants something else.
func (b *Balloon) Deflate(n int) int {
	if !b.onOOM {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.content = true
	return b.deflate(n)
}

// Tags of statistics (5.5.6.3).
const (
	tagFree      = 4
	tagTotal     = 5
	tagAvailable = 6
	tagCaches    = 7

	statisticBytes = 10
)

// report gives the device the statistics, and new ones each time that it has read them.
func (b *Balloon) report() {
	pa, ok := metal.AllocFrame(metal.OwnerKernel)
	if !ok {
		return
	}
	to := metal.View(pa, metal.FrameSize)
	r := &virtio.Request{Out: []virtio.Buffer{{PA: pa}}}
	fill := func() {
		f := metal.Frames()
		n := 0
		for _, s := range []struct {
			tag    uint16
			frames uint64
		}{
			{tagFree, f.Free}, {tagTotal, f.Total - f.ByOwner[metal.OwnerBalloon]},
			{tagAvailable, f.Free - min(f.Free, f.Reserve)}, {tagCaches, f.ByOwner[metal.OwnerPageCache]},
		} {
			binary.LittleEndian.PutUint16(to[n:], s.tag)
			binary.LittleEndian.PutUint64(to[n+2:], s.frames*metal.FrameSize)
			n += statisticBytes
		}
		r.Out[0].Len = uint32(n)
	}
	r.Done = func(_ *virtio.Request, _ uint32, err error) {
		if err != nil {
			return
		}
		fill()
		if b.statistics.Add(r) == nil {
			b.statistics.Notify()
		}
	}
	fill()
	if b.statistics.Add(r) == nil {
		b.statistics.Notify()
	}
}
