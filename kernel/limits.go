package kernel

import (
	"math"
	"sync"

	"golang.org/x/sys/unix"
)

// Resources of getrlimit(2) that package unix does not name.
const (
	rlimitSigpending = 11
	rlimitMsgqueue   = 12
	rlimitNice       = 13
	rlimitRTPrio     = 14

	limits = 16
)

// Infinity is RLIM_INFINITY.
const Infinity = math.MaxUint64

// Limits are a process's resource limits (getrlimit(2)). Their lock is a leaf.
type Limits struct {
	mu  sync.Mutex
	set [limits]unix.Rlimit // guarded by mu
}

// DefaultLimits returns the limits that Linux gives the first process of a machine on which maxTasks
// threads may run.
func DefaultLimits(maxTasks uint64) *Limits {
	l := &Limits{}
	for i := range l.set {
		l.set[i] = unix.Rlimit{Cur: Infinity, Max: Infinity}
	}
	l.set[unix.RLIMIT_STACK].Cur = 8 << 20
	l.set[unix.RLIMIT_CORE].Cur = 0
	l.set[unix.RLIMIT_NPROC] = unix.Rlimit{Cur: maxTasks, Max: maxTasks}
	l.set[unix.RLIMIT_NOFILE] = unix.Rlimit{Cur: 1024, Max: 1 << 20}
	l.set[unix.RLIMIT_MEMLOCK] = unix.Rlimit{Cur: 8 << 20, Max: 8 << 20}
	l.set[rlimitSigpending] = unix.Rlimit{Cur: maxTasks, Max: maxTasks}
	l.set[rlimitMsgqueue] = unix.Rlimit{Cur: 819200, Max: 819200}
	l.set[rlimitNice] = unix.Rlimit{}
	l.set[rlimitRTPrio] = unix.Rlimit{}
	return l
}

// Get returns the limits of resource, which is one of unix's RLIMIT constants: EINVAL otherwise.
func (l *Limits) Get(resource int) (unix.Rlimit, error) {
	if resource < 0 || resource >= limits {
		return unix.Rlimit{}, unix.EINVAL
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.set[resource], nil
}

// Soft returns the soft limit of resource. Precondition: resource is one of unix's RLIMIT constants.
func (l *Limits) Soft(resource int) uint64 {
	limit := &l.set[resource]
	l.mu.Lock()
	soft := limit.Cur
	l.mu.Unlock()
	return soft
}

// Set changes the limits of resource on behalf of somebody with creds: EINVAL, or EPERM when the
// hard limit would rise without CAP_SYS_RESOURCE.
func (l *Limits) Set(resource int, to unix.Rlimit, creds *Credentials) error {
	if resource < 0 || resource >= limits || to.Cur > to.Max {
		return unix.EINVAL
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if resource == unix.RLIMIT_NOFILE && to.Max > maxOpenFiles {
		return unix.EPERM
	}
	if to.Max > l.set[resource].Max && !creds.HasCap(unix.CAP_SYS_RESOURCE) {
		return unix.EPERM
	}
	l.set[resource] = to
	return nil
}

// maxOpenFiles is /proc/sys/fs/nr_open.
const maxOpenFiles = 1 << 20

// Fork returns a copy for a new process.
func (l *Limits) Fork() *Limits {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &Limits{set: l.set}
}
