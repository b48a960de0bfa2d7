package tcp

import (
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// write takes what a program sends, as much as there is room for, and sends what may be sent. The endpoint is not
// locked while the bytes are copied, which can take long.
func (e *Endpoint) write(p tcpip.Payloader, opts tcpip.WriteOptions) (int64, tcpip.Error) {
	room, err := e.roomToWrite()
	if err != nil {
		return 0, err
	}
	room = min(room, p.Len())
	if room == 0 {
		return 0, nil
	}
	var buf buffer.Buffer
	if err := e.copyIn(&buf, p, room); err != nil {
		buf.Release()
		return 0, &tcpip.ErrBadBuffer{}
	}
	if buf.Size() == 0 {
		return 0, nil
	}
	e.LockUser()
	defer e.UnlockUser()
	s, n, err := e.queue(buf, opts)
	if err != nil {
		return 0, err
	}
	if !e.sendInside(s) {
		e.sendData(s)
	}
	return int64(n), nil
}

// copyIn fills b with n bytes of p, or as many as there are: into blocks of the card's if they are many, so that
// they aren't copied once more.
func (e *Endpoint) copyIn(b *buffer.Buffer, p tcpip.Payloader, n int) error {
	for {
		v, k := e.block(n)
		if v == nil {
			break
		}
		if done, err := b.Fill(v, p, k); err != nil || done < k {
			return err
		}
		n -= k
	}
	if n == 0 {
		return nil
	}
	_, err := b.WriteFromReaderAndLimitedReader(p, int64(n), nil)
	return err
}

// block returns an empty view of a block of the card's for up to n bytes, and how many it takes; see stack.Straight.
func (e *Endpoint) block(n int) (*buffer.View, int) {
	if n < stack.LeastHeld {
		return nil, 0
	}
	e.LockUser()
	defer e.UnlockUser()
	if e.route == nil {
		return nil, 0
	}
	w := e.straightWay()
	if w == nil {
		return nil, 0
	}
	return w.Block(n)
}

// roomToWrite returns how many bytes may be written now, more than none.
func (e *Endpoint) roomToWrite() (int, tcpip.Error) {
	q := &e.sndQueueInfo
	if !e.EndpointState().connected() {
		e.LockUser() // for the error that it has
		defer e.UnlockUser()
	}
	q.sndQueueMu.Lock()
	room, err := e.isEndpointWritableLocked()
	q.sndQueueMu.Unlock()
	if err != nil {
		e.stats.WriteErrors.WriteClosed.Increment()
	}
	return room, err
}

// queue puts bytes behind what is yet to be sent. It takes buf, and returns the segment that has them, and how many
// there still was room for.
//
// +checklocks:e.mu
func (e *Endpoint) queue(buf buffer.Buffer, opts tcpip.WriteOptions) (*segment, int, tcpip.Error) {
	q := &e.sndQueueInfo
	q.sndQueueMu.Lock()
	defer q.sndQueueMu.Unlock()
	room, err := e.isEndpointWritableLocked()
	if err != nil {
		e.stats.WriteErrors.WriteClosed.Increment()
		buf.Release()
		return nil, 0, err
	}
	buf.Truncate(int64(room))
	size := int(buf.Size())
	q.SndBufUsed += size
	if s := e.mergeSmall(&buf, opts); s != nil {
		return s, size, nil
	}
	s := newOutgoingSegment(e.ID, e.stack.Clock(), buf, e.ops.GetMark())
	e.snd.writeList.PushBack(s)
	if opts.EndOfRecord {
		e.markUrgent(s)
	}
	return s, size, nil
}

// mostMerged is how many bytes of small writes one segment gathers while it waits to be sent.
const mostMerged = 32 << 10

// mergeSmall adds what a program writes to the segment that waits to be sent last, if that has room: a
// segment takes a kilobyte of its own, and a program may write byte by byte to a peer that doesn't receive.
//
// +checklocks:e.mu
func (e *Endpoint) mergeSmall(b *buffer.Buffer, opts tcpip.WriteOptions) *segment {
	last := e.snd.writeList.Back()
	if last == nil || last.urgent || opts.EndOfRecord || e.snd.isAssignedSequenceNumber(last) || last.payloadSize() == 0 || last.ReadRefs() != 1 ||
		b.Size() > mostMerged/8 || last.payloadSize()+int(b.Size()) > mostMerged {
		return nil
	}
	last.pkt.Data().AppendView(buffer.NewViewWithData(b.Flatten()))
	b.Release()
	last.dataMemSize = last.pkt.MemSize()
	return last
}
