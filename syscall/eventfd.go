package syscall

import (
	"sync"

	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/vfs/event"
	"elver/vfs/tmpfs"
)

// eventfd(2)
func sysEventfd(t *kernel.Thread, a *args) (uint64, error) { return newEventfd(t, a.uint(0), 0) }

// eventfd2(2)
func sysEventfd2(t *kernel.Thread, a *args) (uint64, error) {
	return newEventfd(t, a.uint(0), a.uint(1))
}

func newEventfd(t *kernel.Thread, initial, flags uint32) (uint64, error) {
	d, err := event.NewEventfd(initial, flags)
	return install(t, d, err, flags&unix.EFD_CLOEXEC != 0)
}

// timerfd_create(2)
func sysTimerfdCreate(t *kernel.Thread, a *args) (uint64, error) {
	clock, flags := a.int(0), a.uint(1)
	switch clock {
	case unix.CLOCK_REALTIME, unix.CLOCK_MONOTONIC, unix.CLOCK_BOOTTIME:
	case unix.CLOCK_REALTIME_ALARM, unix.CLOCK_BOOTTIME_ALARM:
		if !t.Creds().HasCap(unix.CAP_WAKE_ALARM) {
			return 0, unix.EPERM
		}
	default:
		return 0, unix.EINVAL
	}
	d, err := event.NewTimerfd(t, int(clock), flags)
	return install(t, d, err, flags&unix.TFD_CLOEXEC != 0)
}

// timerOf calls f with the timer of descriptor number.
func timerOf(t *kernel.Thread, number int32, f func(*event.Timer) error) (uint64, error) {
	d, err := localOf(t).files.Get(number)
	if err != nil {
		return 0, err
	}
	defer d.Decref()
	timer, err := event.TimerOf(d)
	if err != nil {
		return 0, err
	}
	return 0, f(timer)
}

// timerfd_settime(2)
func sysTimerfdSettime(t *kernel.Thread, a *args) (uint64, error) {
	value, interval, err := intervalAt(t, a.arg(2), false)
	if err != nil {
		return 0, err
	}
	if a.uint(1)&^(unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET) != 0 {
		return 0, unix.EINVAL
	}
	return timerOf(t, a.int(0), func(timer *event.Timer) error {
		oldValue, oldInterval, err := timer.Set(value, interval, int(a.int(1)))
		if err != nil || a.arg(3) == 0 {
			return err
		}
		return writeInterval(t, a.arg(3), oldValue, oldInterval, false)
	})
}

// timerfd_gettime(2)
func sysTimerfdGettime(t *kernel.Thread, a *args) (uint64, error) {
	return timerOf(t, a.int(0), func(timer *event.Timer) error {
		value, interval := timer.Get()
		return writeInterval(t, a.arg(1), value, interval, false)
	})
}

// signalfd(2)
func sysSignalfd(t *kernel.Thread, a *args) (uint64, error) {
	return signalfd(t, a.int(0), a.arg(1), a.arg(2), 0)
}

// signalfd4(2)
func sysSignalfd4(t *kernel.Thread, a *args) (uint64, error) {
	return signalfd(t, a.int(0), a.arg(1), a.arg(2), a.uint(3))
}

func signalfd(t *kernel.Thread, number int32, addr, size uint64, flags uint32) (uint64, error) {
	if size != sizeofSigset {
		return 0, unix.EINVAL
	}
	v, err := t.MM().ReadUint64(addr)
	if err != nil {
		return 0, err
	}
	if flags&^(unix.SFD_CLOEXEC|unix.SFD_NONBLOCK) != 0 {
		return 0, unix.EINVAL
	}
	set := kernel.SigSet(v) &^ kernel.SetOf(kernel.Signal(unix.SIGKILL), kernel.Signal(unix.SIGSTOP))
	if number == -1 {
		d, err := event.NewSignalfd(t, set, flags)
		return install(t, d, err, flags&unix.SFD_CLOEXEC != 0)
	}
	d, err := localOf(t).files.Get(number)
	if err != nil {
		return 0, err
	}
	defer d.Decref()
	return uint64(number), event.SetSignals(d, set)
}

// memfds is the file system in which the files of memfd_create live.
var memfds = sync.OnceValue(func() *tmpfs.FS { return tmpfs.New(tmpfs.Options{}) })

// memfd_create(2)
func sysMemfdCreate(t *kernel.Thread, a *args) (uint64, error) {
	const maxName = 249 // what NAME_MAX leaves beside "memfd:"
	flags := a.uint(1)
	if flags&unix.MFD_HUGETLB != 0 && flags&^(unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_HUGETLB|unix.MFD_HUGE_MASK<<unix.MFD_HUGE_SHIFT) == 0 {
		return 0, unix.ENODEV // no huge pages of any size
	}
	if flags&^(unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_NOEXEC_SEAL|unix.MFD_EXEC) != 0 ||
		flags&(unix.MFD_NOEXEC_SEAL|unix.MFD_EXEC) == unix.MFD_NOEXEC_SEAL|unix.MFD_EXEC {
		return 0, unix.EINVAL
	}
	name, err := t.MM().CopyInString(a.arg(0), maxName+1)
	if err == unix.ENAMETOOLONG {
		err = unix.EINVAL
	}
	if err != nil {
		return 0, err
	}
	d, err := memfds().Memfd(filesOf(t), name, flags)
	return install(t, d, err, flags&unix.MFD_CLOEXEC != 0)
}
