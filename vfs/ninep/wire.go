package ninep

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

var le = binary.LittleEndian

// Messages of 9P2000.L (diod's protocol.md; QEMU's hw/9pfs/9p.h). The answer to a message has the next
// number.
const (
	rlerror      = 7
	tstatfs      = 8
	tlopen       = 12
	tlcreate     = 14
	tsymlink     = 16
	treadlink    = 22
	tgetattr     = 24
	tsetattr     = 26
	txattrwalk   = 30
	txattrcreate = 32
	treaddir     = 40
	tfsync       = 50
	tlink        = 70
	tmkdir       = 72
	trenameat    = 74
	tunlinkat    = 76
	tversion     = 100
	tattach      = 104
	tflush       = 108
	twalk        = 110
	tread        = 116
	twrite       = 118
	tclunk       = 120
)

const (
	noTag = ^uint16(0)
	noFid = ^uint32(0)
	noUID = ^uint32(0)

	headerBytes      = 7  // size, type, tag
	readHeaderBytes  = 11 // of the answer to a read, before the data
	writeHeaderBytes = 23 // of a write, before the data
	qidBytes         = 13
	maxWalk          = 16 // names in one walk

	version = "9P2000.L"
)

// Types of a qid.
const (
	qidDir     = 0x80
	qidSymlink = 0x02
)

// qid is the server's identity of a file.
type qid struct {
	kind    uint8
	version uint32
	path    uint64
}

// encoder builds a message.
type encoder struct{ b []byte }

func (e *encoder) u16(v uint16) { e.b = le.AppendUint16(e.b, v) }
func (e *encoder) u32(v uint32) { e.b = le.AppendUint32(e.b, v) }
func (e *encoder) u64(v uint64) { e.b = le.AppendUint64(e.b, v) }

// str appends a string. Precondition: it is shorter than 64 KiB.
func (e *encoder) str(s string) {
	e.u16(uint16(len(s)))
	e.b = append(e.b, s...)
}

// decoder takes a message apart. Beyond its end everything is 0, and bad is set.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || n > len(d.b) {
		d.bad = true
		return nil
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) u8() uint8 {
	if p := d.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if p := d.take(2); p != nil {
		return le.Uint16(p)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if p := d.take(4); p != nil {
		return le.Uint32(p)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if p := d.take(8); p != nil {
		return le.Uint64(p)
	}
	return 0
}

func (d *decoder) str() string { return string(d.take(int(d.u16()))) }

func (d *decoder) qid() qid { return qid{d.u8(), d.u32(), d.u64()} }

// err returns EIO if the message was shorter than it should have been.
func (d *decoder) err() error {
	if d.bad {
		return unix.EIO
	}
	return nil
}
