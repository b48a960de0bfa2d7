package kernel

import "sync/atomic"

// IOCounts is what a thread or process read and wrote (proc_pid_io(5)).
type IOCounts struct {
	ReadChars, WrittenChars uint64 // by read(2), write(2) and their like, wherever the bytes came from
	Reads, Writes           uint64 // those calls
	ReadBytes, WrittenBytes uint64 // that servers of files were asked for, and sent
}

func (c *IOCounts) add(d IOCounts) {
	c.ReadChars += d.ReadChars
	c.WrittenChars += d.WrittenChars
	c.Reads += d.Reads
	c.Writes += d.Writes
	c.ReadBytes += d.ReadBytes
	c.WrittenBytes += d.WrittenBytes
}

// threadIO is IOCounts of a thread, which counts while others look.
type threadIO struct {
	readChars, writtenChars, reads, writes, readBytes, writtenBytes atomic.Uint64
}

// CountRead counts a call of the read(2) family that read n bytes.
func (t *Thread) CountRead(n uint64) {
	t.io.readChars.Add(n)
	t.io.reads.Add(1)
}

// CountWrite counts a call of the write(2) family that wrote n bytes.
func (t *Thread) CountWrite(n uint64) {
	t.io.writtenChars.Add(n)
	t.io.writes.Add(1)
}

// CountStorage counts bytes that the thread had read from and written to where files are kept.
func (t *Thread) CountStorage(read, written uint64) {
	t.io.readBytes.Add(read)
	t.io.writtenBytes.Add(written)
}

// IO returns what the thread read and wrote.
func (t *Thread) IO() IOCounts {
	c := &t.io
	return IOCounts{c.readChars.Load(), c.writtenChars.Load(), c.reads.Load(), c.writes.Load(), c.readBytes.Load(), c.writtenBytes.Load()}
}

// IO returns what all threads read and wrote that the process ever had.
func (p *Process) IO() IOCounts {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.deadIO
	for _, t := range p.threads {
		c.add(t.IO())
	}
	return c
}
