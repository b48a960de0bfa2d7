package inet

import (
	"runtime"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"elver/runtime/metal"
)

// What connections hold for peers that don't read, or for programs that don't, lies in the Go heap. It would fill
// any machine, were each connection given what a lone one may have: so when the heap has grown large, or memory is
// short, a connection holds less. One whose peer acknowledges what it is sent grows again (see netstack's
// computeTCPSendBufferSize).
const (
	pressedBuffer = 32 << 10
	leastBuffer   = minTCPBuffer
)

// allowance returns how large a connection's buffers may be now, 0 for as large as it likes.
func allowance(f metal.Stats) int64 {
	heap := f.ByOwner[metal.OwnerGoHeap]
	switch {
	case heap > f.Total/8*3 || f.Free < f.Reserve/4:
		return leastBuffer
	case heap > f.Total/4 || f.Free < f.Reserve/2:
		return pressedBuffer
	}
	return 0
}

// shrinkSend has a connection that is about to send so many bytes hold less for its peer if it must. What it holds
// already stays: it takes nothing more until that has gone. Small messages are let pass until together they are as
// much as a connection may always hold.
func (s *Socket) shrinkSend(size int) {
	if s.unchecked.Add(int64(size)) < leastBuffer {
		return
	}
	s.unchecked.Store(0)
	o := s.ep().SocketOptions()
	most := allowance(metal.Frames())
	if most == 0 {
		return
	}
	if relieve(); o.GetSendBufferSize() > most {
		o.SetSendBufferSize(most, false) // without a notice: nobody gets more room
	}
}

// shrinkReceive has a new connection hold less for the program if it must, and returns how much it held.
func shrinkReceive(o *tcpip.SocketOptions) (before int64) {
	before = o.GetReceiveBufferSize()
	most := allowance(metal.Frames())
	if most == 0 {
		return 0
	}
	if relieve(); before <= most {
		return 0
	}
	o.SetReceiveBufferSize(most, true)
	return before
}

// relief is how long after connections had to hold less what they held is looked for.
const relief = 10 * time.Second

var relieving atomic.Bool

// relieve gives memory back that connections held once they are gone, which the Go heap would keep until as much again is
// allocated: connections had to hold less.
func relieve() {
	if relieving.Swap(true) {
		return
	}
	go func() {
		defer relieving.Store(false)
		for crowded() {
			time.Sleep(relief)
			runtime.GC()
		}
	}()
}

// growReceive gives a connection that shrinkReceive shrank its own back when there is memory again: as it is, it may
// have room for no more than a few segments out of order.
func (s *Socket) growReceive() {
	if allowance(metal.Frames()) != 0 {
		return
	}
	if before := s.shrunk.Swap(0); before > s.ep().SocketOptions().GetReceiveBufferSize() {
		s.ep().SocketOptions().SetReceiveBufferSize(before, true)
	}
}

// crowdable is netstack's TCP, if it makes connections from cookies when it is told that memory is scarce.
type crowdable interface {
	SetCrowded(func() bool)
}

// crowded says so, before connections have to hold less.
func crowded() bool {
	f := metal.Frames()
	return f.ByOwner[metal.OwnerGoHeap] > f.Total/8
}
