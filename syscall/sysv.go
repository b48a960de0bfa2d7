package syscall

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/kernel/sysv"
)

// sharedMemory, semaphores and messages are the machine's.
var (
	sharedMemory = &sysv.Machine.Memory
	semaphores   = &sysv.Machine.Semaphores
	messages     = &sysv.Machine.Messages
)

// shmget(2)
func sysShmget(t *kernel.Thread, a *args) (uint64, error) {
	id, err := sharedMemory.Get(t, a.int(0), a.arg(1), int(a.int(2)))
	return uint64(id), err
}

// shmat(2)
func sysShmat(t *kernel.Thread, a *args) (uint64, error) {
	return sharedMemory.Attach(t, int(a.int(0)), a.arg(1), int(a.int(2)))
}

// shmdt(2)
func sysShmdt(t *kernel.Thread, a *args) (uint64, error) {
	return 0, sharedMemory.Detach(t, a.arg(0))
}

// ipc64 is a bit that old C libraries add to commands.
const ipc64 = 0x100

// Commands of shmctl(2), semctl(2) and msgctl(2).
const (
	ipcRemove = 0
	ipcSet    = 1
	ipcStat   = 2
	ipcInfo   = 3

	shmLock    = 11
	shmUnlock  = 12
	shmStat    = 13
	shmInfo    = 14
	shmStatAny = 15

	semGetPID   = 11
	semGetValue = 12
	semGetAll   = 13
	semGetMore  = 14 // GETNCNT
	semGetZero  = 15 // GETZCNT
	semSetValue = 16
	semSetAll   = 17
	semStat     = 18
	semInfo     = 19
	semStatAny  = 20

	msgStat    = 11
	msgInfo    = 12
	msgStatAny = 13
)

// sizeofShmid is the size of struct shmid64_ds.
const sizeofShmid = 112

// shmctl(2)
func sysShmctl(t *kernel.Thread, a *args) (uint64, error) {
	id, addr := int(a.int(0)), a.arg(2)
	if a.int(0) < 0 {
		return 0, unix.EINVAL
	}
	switch command := a.int(1) &^ ipc64; command {
	case ipcStat:
		s, err := sharedMemory.Stat(t, id)
		if err != nil {
			return 0, err
		}
		return 0, writeShmid(t, addr, &s)
	case shmStat, shmStatAny:
		s, err := sharedMemory.StatIndex(t, id, command == shmStatAny)
		if err != nil {
			return 0, err
		}
		return uint64(s.ID), writeShmid(t, addr, &s)
	case ipcSet:
		b := localOf(t).bytes[:sizeofShmid]
		if err := copyIn(t, b, addr); err != nil {
			return 0, err
		}
		return 0, sharedMemory.Set(t, id, halfword(b, 4), halfword(b, 8), halfword(b, 20))
	case ipcRemove:
		return 0, sharedMemory.Remove(t, id)
	case shmLock, shmUnlock:
		return 0, sharedMemory.Lock(t, id, command == shmLock)
	case ipcInfo:
		_, highest, _, _ := sharedMemory.Info()
		e := encoder{localOf(t).bytes[:0]} // struct shminfo64
		const most = 18446744073692774399
		for _, v := range [...]uint64{most, 1, sysv.MaxSegments, sysv.MaxSegments, most, 0, 0, 0, 0} {
			e.u64(v)
		}
		return uint64(highest), copyOut(t, addr, e.b)
	case shmInfo:
		count, highest, pages, resident := sharedMemory.Info()
		e := encoder{localOf(t).bytes[:0]}
		e.u32(uint32(count))
		e.u32(0)
		for _, v := range [...]uint64{pages, resident, 0, 0, 0} {
			e.u64(v)
		}
		return uint64(highest), copyOut(t, addr, e.b)
	}
	return 0, unix.EINVAL
}

func writeShmid(t *kernel.Thread, addr uint64, s *sysv.Status) error {
	e := encoder{localOf(t).bytes[:0]}
	e.perm(&s.Perm)
	e.u64(s.Size)
	e.u64(uint64(s.Atime))
	e.u64(uint64(s.Dtime))
	e.u64(uint64(s.Ctime))
	e.u32(uint32(s.Creator))
	e.u32(uint32(s.Last))
	e.u64(s.Attached)
	e.zero(2 * 8)
	return copyOut(t, addr, e.b)
}

// perm writes p as struct ipc64_perm.
func (e *encoder) perm(p *sysv.Perm) {
	for _, v := range [...]uint32{uint32(p.Key), p.UID, p.GID, p.CUID, p.CGID, p.Mode} {
		e.u32(v)
	}
	e.u16(p.Seq)
	e.zero(6 + 2*8)
}

// semget(2)
func sysSemget(t *kernel.Thread, a *args) (uint64, error) {
	id, err := semaphores.Get(t, a.int(0), int(a.int(1)), int(a.int(2)))
	return uint64(id), err
}

// semop(2)
func sysSemop(t *kernel.Thread, a *args) (uint64, error) {
	return semop(t, a.int(0), a.arg(1), a.arg(2), kernel.Never)
}

// semtimedop(2)
func sysSemtimedop(t *kernel.Thread, a *args) (uint64, error) {
	d, err := deadlineAt(t, a.arg(3))
	if err != nil {
		return 0, err
	}
	return semop(t, a.int(0), a.arg(1), a.arg(2), d)
}

// sizeofSembuf is the size of struct sembuf; semopAtOnce is how many a call has without an allocation.
const (
	sizeofSembuf = 6
	semopAtOnce  = 8
)

func semop(t *kernel.Thread, id int32, addr, n uint64, d kernel.Deadline) (uint64, error) {
	if n < 1 || id < 0 {
		return 0, unix.EINVAL
	}
	if n > uint64(semaphores.Limits()[2]) {
		return 0, unix.E2BIG
	}
	var few [semopAtOnce]sysv.SemOp
	var fewBytes [semopAtOnce * sizeofSembuf]byte
	ops, b := few[:], fewBytes[:]
	if n > semopAtOnce {
		ops, b = make([]sysv.SemOp, n), make([]byte, n*sizeofSembuf)
	}
	ops, b = ops[:n], b[:n*sizeofSembuf]
	if err := copyIn(t, b, addr); err != nil {
		return 0, err
	}
	for i := range ops {
		op := b[i*sizeofSembuf:]
		ops[i] = sysv.SemOp{Num: binary.LittleEndian.Uint16(op), Op: int16(binary.LittleEndian.Uint16(op[2:])), Flags: int16(binary.LittleEndian.Uint16(op[4:]))}
	}
	return 0, semaphores.Operate(t, int(id), ops, d)
}

// sizeofSemid is the size of struct semid64_ds.
const sizeofSemid = 104

// semctl(2)
func sysSemctl(t *kernel.Thread, a *args) (uint64, error) {
	id, n, addr := int(a.int(0)), int(a.int(1)), a.arg(3)
	if id < 0 {
		return 0, unix.EINVAL
	}
	command := a.int(2) &^ ipc64
	switch command {
	case ipcInfo, semInfo:
		sets, count, highest := semaphores.Info()
		l := semaphores.Limits()
		const perUndo = 64
		used, most := perUndo, sysv.MaxSemaphoreValue
		if command == semInfo {
			used, most = sets, count
		}
		e := encoder{localOf(t).bytes[:0]} // struct seminfo
		for _, v := range [...]int{l[1], l[3], l[1], l[1], l[0], l[2], l[2], used, sysv.MaxSemaphoreValue, most} {
			e.u32(uint32(v))
		}
		return uint64(highest), copyOut(t, addr, e.b)
	case ipcStat:
		s, err := semaphores.Stat(t, id)
		if err != nil {
			return 0, err
		}
		return 0, writeSemid(t, addr, &s)
	case semStat, semStatAny:
		s, err := semaphores.StatIndex(t, id, command == semStatAny)
		if err != nil {
			return 0, err
		}
		return uint64(s.ID), writeSemid(t, addr, &s)
	case ipcSet:
		b := localOf(t).bytes[:sizeofSemid]
		if err := copyIn(t, b, addr); err != nil {
			return 0, err
		}
		return 0, semaphores.Set(t, id, halfword(b, 4), halfword(b, 8), halfword(b, 20))
	case ipcRemove:
		return 0, semaphores.Remove(t, id)
	case semGetAll:
		values, err := semaphores.Values(t, id)
		if err != nil {
			return 0, err
		}
		e := encoder{make([]byte, 0, 2*len(values))}
		for _, v := range values {
			e.u16(v)
		}
		return 0, copyOut(t, addr, e.b)
	case semSetAll:
		count, err := semaphores.Count(t, id)
		if err != nil {
			return 0, err
		}
		b := make([]byte, 2*count)
		if err := copyIn(t, b, addr); err != nil {
			return 0, err
		}
		values := make([]uint16, count)
		for i := range values {
			values[i] = binary.LittleEndian.Uint16(b[2*i:])
		}
		return 0, semaphores.SetValues(t, id, 0, values)
	case semSetValue:
		if v := int32(addr); v < 0 || v > sysv.MaxSemaphoreValue {
			return 0, unix.ERANGE
		}
		return 0, semaphores.SetValues(t, id, n, []uint16{uint16(addr)})
	case semGetPID, semGetValue, semGetMore, semGetZero:
		s, err := semaphores.State(t, id, n)
		switch command {
		case semGetPID:
			return uint64(s.PID), err
		case semGetValue:
			return uint64(s.Value), err
		case semGetMore:
			return uint64(s.WaitMore), err
		}
		return uint64(s.WaitZero), err
	}
	return 0, unix.EINVAL
}

func writeSemid(t *kernel.Thread, addr uint64, s *sysv.SemStatus) error {
	e := encoder{localOf(t).bytes[:0]}
	e.perm(&s.Perm)
	for _, v := range [...]uint64{uint64(s.Otime), 0, uint64(s.Ctime), 0, uint64(s.Count), 0, 0} {
		e.u64(v)
	}
	return copyOut(t, addr, e.b)
}

// msgget(2)
func sysMsgget(t *kernel.Thread, a *args) (uint64, error) {
	id, err := messages.Get(t, a.int(0), int(a.int(1)))
	return uint64(id), err
}

// msgsnd(2)
func sysMsgsnd(t *kernel.Thread, a *args) (uint64, error) {
	id, addr, size := a.int(0), a.arg(1), a.arg(2)
	kind, err := t.MM().ReadUint64(addr)
	if err != nil {
		return 0, err
	}
	if size > uint64(messages.Limit(sysv.LimitMessageSize)) || id < 0 || int64(kind) < 1 {
		return 0, unix.EINVAL
	}
	text := make([]byte, size)
	if err := copyIn(t, text, addr+8); err != nil {
		return 0, err
	}
	return 0, messages.Send(t, int(id), &sysv.Message{Type: int64(kind), Text: text}, int(a.int(3)))
}

// msgrcv(2)
func sysMsgrcv(t *kernel.Thread, a *args) (uint64, error) {
	id, addr, size := a.int(0), a.arg(1), a.arg(2)
	if id < 0 || int64(size) < 0 {
		return 0, unix.EINVAL
	}
	m, err := messages.Receive(t, int(id), int(size), int64(a.arg(3)), int(a.int(4)))
	if err != nil {
		return 0, err
	}
	if err := t.MM().WriteUint64(addr, uint64(m.Type)); err != nil {
		return 0, err
	}
	n := min(len(m.Text), int(size))
	return uint64(n), copyOut(t, addr+8, m.Text[:n])
}

// sizeofMsqid is the size of struct msqid64_ds.
const sizeofMsqid = 120

// msgctl(2)
func sysMsgctl(t *kernel.Thread, a *args) (uint64, error) {
	id, addr := int(a.int(0)), a.arg(2)
	if id < 0 {
		return 0, unix.EINVAL
	}
	switch command := a.int(1) &^ ipc64; command {
	case ipcInfo, msgInfo:
		queues, count, bytes, highest := messages.Info()
		size, queue, most := messages.Limit(sysv.LimitMessageSize), messages.Limit(sysv.LimitQueueSize), messages.Limit(sysv.LimitQueues)
		pool, headers, total := most*queue/1024, queue, queue
		if command == msgInfo {
			pool, headers, total = queues, count, bytes
		}
		const segmentSize, segments = 16, 0xffff
		e := encoder{localOf(t).bytes[:0]} // struct msginfo
		for _, v := range [...]int{pool, headers, size, queue, most, segmentSize, total, segments} {
			e.u32(uint32(v))
		}
		return uint64(highest), copyOut(t, addr, e.b)
	case ipcStat:
		s, err := messages.Stat(t, id)
		if err != nil {
			return 0, err
		}
		return 0, writeMsqid(t, addr, &s)
	case msgStat, msgStatAny:
		s, err := messages.StatIndex(t, id, command == msgStatAny)
		if err != nil {
			return 0, err
		}
		return uint64(s.ID), writeMsqid(t, addr, &s)
	case ipcSet:
		b := localOf(t).bytes[:sizeofMsqid]
		if err := copyIn(t, b, addr); err != nil {
			return 0, err
		}
		return 0, messages.Set(t, id, halfword(b, 4), halfword(b, 8), halfword(b, 20), binary.LittleEndian.Uint64(b[88:]))
	case ipcRemove:
		return 0, messages.Remove(t, id)
	}
	return 0, unix.EINVAL
}

func writeMsqid(t *kernel.Thread, addr uint64, s *sysv.MsgStatus) error {
	e := encoder{localOf(t).bytes[:0]}
	e.perm(&s.Perm)
	for _, v := range [...]uint64{uint64(s.Stime), uint64(s.Rtime), uint64(s.Ctime), uint64(s.Bytes), uint64(s.Count), uint64(s.Limit)} {
		e.u64(v)
	}
	e.u32(uint32(s.Sender))
	e.u32(uint32(s.Receiver))
	e.zero(2 * 8)
	return copyOut(t, addr, e.b)
}
