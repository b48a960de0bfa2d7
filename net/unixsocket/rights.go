package unixsocket

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"elver/net"
	"elver/vfs"
)

// Descriptors that are under way (SCM_RIGHTS). A socket may wait in its own queue, or two in each
// other's: no close would ever reach them. Such circles are found by looking which sockets under way
// can be reached from one that is held by something else than a queue.

// flights are the descriptions under way.
var flights struct {
	mu    sync.Mutex
	count map[*vfs.Description]int // how many times each is under way
	total int
}

// takeOff counts rights as under way: ETOOMANYREFS beyond RLIMIT_NOFILE, unless privileged
// (unix(7)).
func takeOff(c *vfs.Context, rights []*vfs.Description) error {
	if len(rights) == 0 {
		return nil
	}
	flights.mu.Lock()
	defer flights.mu.Unlock()
	if c.Limits != nil && uint64(flights.total) > c.Limits.Soft(unix.RLIMIT_NOFILE) &&
		!c.Creds.HasCap(unix.CAP_SYS_RESOURCE) && !c.Creds.HasCap(unix.CAP_SYS_ADMIN) {
		return unix.ETOOMANYREFS
	}
	if flights.count == nil {
		flights.count = make(map[*vfs.Description]int)
	}
	for _, d := range rights {
		flights.count[d]++
	}
	flights.total += len(rights)
	return nil
}

// land undoes takeOff.
func land(rights []*vfs.Description) {
	if len(rights) == 0 {
		return
	}
	flights.mu.Lock()
	defer flights.mu.Unlock()
	for _, d := range rights {
		if flights.count[d]--; flights.count[d] == 0 {
			delete(flights.count, d)
		}
	}
	flights.total -= len(rights)
}

// carried returns the descriptions of sockets that wait in s's queue, and in those of the connections
// that wait to be accepted.
func (s *Socket) carried() []*vfs.Description {
	found := s.in.carried(nil)
	for _, e := range s.waiting() {
		found = e.in.carried(found)
	}
	return found
}

func (q *queue) carried(found []*vfs.Description) []*vfs.Description {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range int(q.count.Load()) {
		for _, d := range q.at(i).rights {
			if _, ok := d.File().(*Socket); ok {
				found = append(found, d)
			}
		}
	}
	return found
}

// strip takes all descriptors out of the queue, and leaves the bytes.
func (q *queue) strip() (rights []*vfs.Description) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range int(q.count.Load()) {
		r := q.at(i)
		rights = append(rights, r.rights...)
		r.rights = nil
	}
	return rights
}

// collectDelay is how long circles wait for their end: closing many sockets costs one search for all.
const collectDelay = 5 * time.Millisecond

var (
	collectPlanned atomic.Bool
	collecting     sync.Mutex // held by the one who looks for circles, and while he closes them
)

// collectSoon has circles looked for that the close of a socket may have left behind.
func collectSoon() {
	flights.mu.Lock()
	none := flights.total == 0
	flights.mu.Unlock()
	if !none && collectPlanned.CompareAndSwap(false, true) {
		time.AfterFunc(collectDelay, func() {
			collectPlanned.Store(false)
			collect()
		})
	}
}

// collect closes the sockets that only circles of queues hold.
//
// What is received or sent meanwhile doesn't hurt: a socket that leaves a queue after edges were read is
// still reached by its edge, one that left before is held by more than the edges say.
func collect() {
	collecting.Lock()
	defer collecting.Unlock()
	flights.mu.Lock()
	var all []*vfs.Description
	for d := range flights.count {
		if _, ok := d.File().(*Socket); ok {
			all = append(all, d)
		}
	}
	flights.mu.Unlock()
	if len(all) == 0 {
		return
	}
	edges := make(map[*vfs.Description][]*vfs.Description, len(all))
	inside := make(map[*vfs.Description]int64, len(all))
	for _, d := range all {
		edges[d] = d.File().(*Socket).carried()
		for _, e := range edges[d] {
			inside[e]++
		}
	}
	reached := make(map[*vfs.Description]bool)
	var todo []*vfs.Description
	for _, d := range all {
		if d.Refs() > inside[d] {
			reached[d] = true
			todo = append(todo, d)
		}
	}
	for len(todo) > 0 {
		d := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, e := range edges[d] {
			if !reached[e] {
				reached[e] = true
				todo = append(todo, e)
			}
		}
	}
	var garbage []*vfs.Description
	for _, d := range all {
		if reached[d] || d.Refs() == 0 {
			continue
		}
		s := d.File().(*Socket)
		garbage = append(garbage, s.in.strip()...)
		for _, e := range s.waiting() {
			garbage = append(garbage, e.in.strip()...)
		}
	}
	discard(garbage)
}

// discarded are descriptions to close. One goroutine at a time closes them: each may be a socket with
// more of them in its queue, and a chain of those would be a recursion as deep as the program likes.
var discarded struct {
	mu   sync.Mutex
	list []*vfs.Description
	busy bool
}

// discard closes descriptions that were under way.
func discard(rights []*vfs.Description) {
	if len(rights) == 0 {
		return
	}
	land(rights)
	g := &discarded
	g.mu.Lock()
	g.list = append(g.list, rights...)
	if g.busy {
		g.mu.Unlock()
		return
	}
	g.busy = true
	for len(g.list) > 0 {
		d := g.list[len(g.list)-1]
		g.list = g.list[:len(g.list)-1]
		g.mu.Unlock()
		d.Decref()
		g.mu.Lock()
	}
	g.list, g.busy = nil, false
	g.mu.Unlock()
}

// attach moves m's rights into r. Precondition: they took off; r's queue is locked.
func (r *record) attach(m *net.Message) {
	if len(m.Rights) > 0 {
		r.rights, m.Rights = m.Rights, nil
	}
}

// deliver gives what came with a message to its receiver, references of rights included.
func (s *Socket) deliver(c *vfs.Context, m *net.Message, creds unix.Ucred, rights []*vfs.Description) {
	if s.On(unix.SO_PASSCRED) && !m.Continued {
		m.PutCredentials(creds)
	}
	if len(rights) > 0 {
		m.PutRights(c, rights)
	}
}
