package net

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"

	"elver/vfs"
)

// Control messages: struct cmsghdr and data, padded to 8 bytes (cmsg(3)).
const (
	sizeofControl = unix.SizeofCmsghdr
	// MaxControl is net.core.optmem_max: no call sends more bytes of control messages.
	MaxControl = 128 << 10
	// MaxRights is SCM_MAX_FD: no message carries more descriptors.
	MaxRights = 253
)

// EachControl calls f for each of the control messages in b: EINVAL for one that doesn't fit there.
func EachControl(b []byte, f func(level, typ int, data []byte) error) error {
	for len(b) >= sizeofControl {
		n := binary.LittleEndian.Uint64(b)
		if n < sizeofControl || n > uint64(len(b)) {
			return unix.EINVAL
		}
		level, typ := int(int32(binary.LittleEndian.Uint32(b[8:]))), int(int32(binary.LittleEndian.Uint32(b[12:])))
		if err := f(level, typ, b[sizeofControl:n]); err != nil {
			return err
		}
		b = b[min((int(n)+7)&^7, len(b)):]
	}
	return nil
}

// ReadRights takes SCM_RIGHTS and SCM_CREDENTIALS out of m.Control into m, as unix(7) says: EINVAL,
// EBADF, EPERM, ESRCH. The references to the descriptions are m's.
func (m *Message) ReadRights(c *vfs.Context) error {
	err := EachControl(m.Control, func(level, typ int, data []byte) error {
		if level != unix.SOL_SOCKET {
			return nil
		}
		switch typ {
		case unix.SCM_RIGHTS:
			return m.readRights(c, data)
		case unix.SCM_CREDENTIALS:
			return m.readCredentials(c, data)
		}
		return unix.EINVAL
	})
	m.Control = nil
	if err != nil {
		m.Drop()
	}
	return err
}

func (m *Message) readRights(c *vfs.Context, data []byte) error {
	n := len(data) / 4
	if n == 0 {
		return nil
	}
	if len(m.Rights)+n > MaxRights {
		return unix.EINVAL
	}
	m.Rights = slices.Grow(m.Rights, n)
	for ; n > 0; n-- {
		d, err := c.Get(int32(binary.LittleEndian.Uint32(data)))
		if err != nil {
			return err
		}
		m.Rights = append(m.Rights, d)
		data = data[4:]
	}
	return nil
}

func (m *Message) readCredentials(c *vfs.Context, data []byte) error {
	if len(data) != unix.SizeofUcred {
		return unix.EINVAL
	}
	u := unix.Ucred{
		Pid: int32(binary.LittleEndian.Uint32(data)), Uid: binary.LittleEndian.Uint32(data[4:]), Gid: binary.LittleEndian.Uint32(data[8:]),
	}
	creds := c.Creds
	if own := PID(c); u.Pid != own && !creds.HasCap(unix.CAP_SYS_ADMIN) ||
		u.Uid != creds.RUID && u.Uid != creds.EUID && u.Uid != creds.SUID && !creds.HasCap(unix.CAP_SETUID) ||
		u.Gid != creds.RGID && u.Gid != creds.EGID && u.Gid != creds.SGID && !creds.HasCap(unix.CAP_SETGID) {
		return unix.EPERM
	} else if u.Pid != own && c.Thread != nil && c.Thread.Kernel().Process(u.Pid) == nil {
		return unix.ESRCH
	}
	m.Credentials, m.HasCredentials = u, true
	return nil
}

// PID returns the id of c's process, 0 outside of one.
func PID(c *vfs.Context) int32 {
	if c.Thread == nil {
		return 0
	}
	return c.Thread.Proc.PID
}

// Sender returns who c is, as SCM_CREDENTIALS says it: with the real ids.
func Sender(c *vfs.Context) unix.Ucred {
	return unix.Ucred{Pid: PID(c), Uid: c.Creds.RUID, Gid: c.Creds.RGID}
}

// Partner returns who c is, as SO_PEERCRED says it: with the effective ids.
func Partner(c *vfs.Context) unix.Ucred {
	return unix.Ucred{Pid: PID(c), Uid: c.Creds.EUID, Gid: c.Creds.EGID}
}

// NoCredentials is what a receiver sees of a sender that gave no credentials.
var NoCredentials = unix.Ucred{Uid: 65534, Gid: 65534}

// ControlRoom is where a received message puts its control messages.
type ControlRoom struct {
	// Bytes are the control messages so far; there is room up to its capacity.
	Bytes []byte
	// Size is how much room the program gave. The room is no larger than that, and no smaller
	// than anything that a message carries.
	Size int
}

// PutControl appends a control message; what doesn't fit is cut off, and MSG_CTRUNC says so.
func (m *Message) PutControl(level, typ int, data []byte) {
	space := m.header(level, typ, len(data))
	if space < 0 {
		return
	}
	m.Room.Bytes = append(m.Room.Bytes, data[:space]...)
	m.pad(space)
}

// header appends the header of a control message with n bytes of data, and returns how many of them
// fit, -1 if not even the header does.
func (m *Message) header(level, typ, n int) int {
	r := &m.Room
	left := min(cap(r.Bytes), r.Size) - len(r.Bytes)
	if left < sizeofControl {
		m.Got |= unix.MSG_CTRUNC
		return -1
	}
	if n > left-sizeofControl {
		m.Got |= unix.MSG_CTRUNC
		n = left - sizeofControl
	}
	r.Bytes = binary.LittleEndian.AppendUint64(r.Bytes, uint64(sizeofControl+n))
	r.Bytes = binary.LittleEndian.AppendUint32(r.Bytes, uint32(level))
	r.Bytes = binary.LittleEndian.AppendUint32(r.Bytes, uint32(typ))
	return n
}

// pad fills up behind n bytes of data, as far as there is room.
func (m *Message) pad(n int) {
	r := &m.Room
	for ; n%8 != 0 && len(r.Bytes) < min(cap(r.Bytes), r.Size); n++ {
		r.Bytes = append(r.Bytes, 0)
	}
}

// PutCredentials appends SCM_CREDENTIALS.
func (m *Message) PutCredentials(u unix.Ucred) {
	var b [unix.SizeofUcred]byte
	binary.LittleEndian.PutUint32(b[:], uint32(u.Pid))
	binary.LittleEndian.PutUint32(b[4:], u.Uid)
	binary.LittleEndian.PutUint32(b[8:], u.Gid)
	m.PutControl(unix.SOL_SOCKET, unix.SCM_CREDENTIALS, b[:])
}

// PutRights gives c's process descriptors of rights, whose references it takes over, and appends
// SCM_RIGHTS with them. What finds no room in the message or in the table is closed, and MSG_CTRUNC says
// so (unix(7)).
func (m *Message) PutRights(c *vfs.Context, rights []*vfs.Description) {
	left := min(cap(m.Room.Bytes), m.Room.Size) - len(m.Room.Bytes) - sizeofControl
	at := len(m.Room.Bytes)
	n := 0
	for len(rights) > 0 && 4*(n+1) <= left {
		fd, err := c.Install(rights[0], m.Flags&unix.MSG_CMSG_CLOEXEC != 0)
		rights = rights[1:] // Install took the reference over, on failure too
		if err != nil {
			m.Got |= unix.MSG_CTRUNC
			break
		}
		if n == 0 {
			m.header(unix.SOL_SOCKET, unix.SCM_RIGHTS, 0)
		}
		m.Room.Bytes = binary.LittleEndian.AppendUint32(m.Room.Bytes, uint32(fd))
		n++
	}
	if n > 0 {
		binary.LittleEndian.PutUint64(m.Room.Bytes[at:], uint64(sizeofControl+4*n))
		m.pad(4 * n)
	}
	if len(rights) > 0 {
		m.Got |= unix.MSG_CTRUNC
	}
	for _, d := range rights {
		d.Decref()
	}
}
