package kernel

import (
	"bytes"
	"iter"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"elver/arch/amd64"
	"elver/kernel/mm"
)

// The tests' programs are Go functions in place of ring 3. A program runs as a coroutine; a system
// call, fault or interrupt of it is a yield, which the fake Enter returns as an event. RIP tells where
// the program is: each yield has its own address, so that restarts, handlers and rt_sigreturn go through
// the registers and the signal frame, as they do on the machine.

const (
	codeBase    = 0x400000
	handlerBase = 0x500000
	restorer    = 0x600000
	dataBase    = 0x700000
	stackTop    = 0x900000
)

type userEvent struct {
	kind  amd64.Event
	call  func(*Thread) (uint64, error) // nil: rt_sigreturn
	setup func(*amd64.Context)
}

// A coroutine is a program or a handler of it.
type coroutine struct {
	next    func() (userEvent, bool)
	stop    func()
	rip     uint64 // behind the yield at which it stands
	event   userEvent
	handler bool
}

// uprog is what a program calls.
type uprog struct {
	t     *Thread
	yield func(userEvent) bool
	m     *machine
}

// sys does a system call and returns what the program sees in RAX.
func (u *uprog) sys(call func(*Thread) (uint64, error)) int64 {
	u.yield(userEvent{kind: amd64.EventSyscall, call: call})
	return int64(u.t.Ctx.RAX)
}

// do is sys for a call that has an error alone.
func (u *uprog) do(call func(*Thread) error) unix.Errno {
	return unix.Errno(-u.sys(func(t *Thread) (uint64, error) { return 0, call(t) }))
}

func (u *uprog) interrupt() { u.yield(userEvent{kind: amd64.EventInterrupt}) }

func (u *uprog) fault(addr, code uint64) {
	u.yield(userEvent{kind: amd64.EventFault, setup: func(c *amd64.Context) { c.FaultAddress, c.ErrorCode, c.Vector = addr, code, vectorPF }})
}

func (u *uprog) exception(vector uint64) {
	u.yield(userEvent{kind: amd64.EventException, setup: func(c *amd64.Context) { c.Vector, c.ErrorCode = vector, 0 }})
}

type program func(u *uprog)

type machine struct {
	*testing.T
	k      *Kernel
	as     *mm.AddressSpace
	first  *Thread
	report bytes.Buffer

	mu       sync.Mutex
	stacks   map[*Thread][]*coroutine
	programs []program               // clone's child runs the one that R12 names
	handlers []func(*uprog, *Thread) // of signals, at handlerBase + index*16
	lastRIP  uint64
	stackEnd uint64 // of the next thread
}

// boot makes a machine whose first process runs main.
func boot(t *testing.T, main program) *machine {
	t.Helper()
	m := &machine{T: t, stacks: make(map[*Thread][]*coroutine), lastRIP: codeBase}
	m.k = New(Config{Syscall: m.syscall, Report: &m.report, enter: m.enter})
	limits := DefaultLimits(1 << 15)
	as, err := mm.New(limits)
	if err != nil {
		t.Fatal(err)
	}
	m.as = as
	for _, r := range [][2]uint64{{dataBase, 0x100000}, {stackTop - 0x100000, 0x100000}} {
		if _, err := as.Mmap(mm.MmapArgs{Addr: r[0], Length: r[1], Prot: unix.PROT_READ | unix.PROT_WRITE, Flags: unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_FIXED}); err != nil {
			t.Fatal(err)
		}
	}
	m.first, err = m.k.NewFirst(as, nil, limits, "test")
	if err != nil {
		t.Fatal(err)
	}
	m.programs = []program{main}
	m.first.Ctx.RSP = stackTop - 64
	return m
}

// run runs the machine to its end and returns the status of the first process.
func (m *machine) run() ExitStatus {
	m.Helper()
	m.first.Start()
	select {
	case <-m.k.ended:
	case <-time.After(20 * time.Second):
		m.Fatal("the machine hangs")
	}
	m.k.Stop()
	return m.k.Wait()
}

// play boots a machine that runs main and expects it to exit with 0.
func play(t *testing.T, main program) *machine {
	t.Helper()
	m := boot(t, main)
	if s := m.run(); s != 0 {
		t.Errorf("exit status is %#x\n%s", uint32(s), m.report.String())
	}
	return m
}

// program registers the program of a child and returns its number for clone.
func (m *machine) program(p program) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.programs = append(m.programs, p)
	return uint64(len(m.programs) - 1)
}

// handler registers a signal handler and returns its address.
func (m *machine) handler(h func(*uprog, *Thread)) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.handlers = append(m.handlers, h)
	return handlerBase + uint64(len(m.handlers)-1)*16
}

func (m *machine) coroutine(t *Thread, p program, handler bool) *coroutine {
	c := &coroutine{handler: handler}
	c.next, c.stop = iter.Pull(func(yield func(userEvent) bool) { p(&uprog{t, yield, m}) })
	return c
}

func (m *machine) syscall(t *Thread) {
	m.mu.Lock()
	stack := m.stacks[t]
	call := stack[len(stack)-1].event.call
	m.mu.Unlock()
	switch {
	case t.Ctx.OrigRAX == unix.SYS_RESTART_SYSCALL:
		call = (*Thread).RestartSyscall
	case call == nil:
		m.mu.Lock()
		m.stacks[t] = stack[:len(stack)-1]
		m.mu.Unlock()
		t.Ctx.RSP += 8 // the handler's RET
		t.Sigreturn()
		return
	}
	if v, err := call(t); err != nil {
		t.Fail(err)
	} else {
		t.Return(v)
	}
}

const someSyscall = 1000

func (m *machine) enter(t *Thread) amd64.Event {
	c := t.Ctx
	m.mu.Lock()
	stack := m.stacks[t]
	var top *coroutine
	switch {
	case c.RIP >= handlerBase && c.RIP < handlerBase+uint64(len(m.handlers))*16:
		h := m.handlers[(c.RIP-handlerBase)/16]
		top = m.coroutine(t, func(u *uprog) { h(u, t) }, true)
		m.stacks[t] = append(stack, top)
	case len(stack) == 0:
		top = m.coroutine(t, m.programs[c.R12], false)
		m.stacks[t] = append(stack, top)
	default:
		top = stack[len(stack)-1]
		if c.RIP == top.rip-sizeSyscall && top.event.kind == amd64.EventSyscall { // it starts over
			m.mu.Unlock()
			c.RIP += sizeSyscall
			c.OrigRAX = c.RAX
			return amd64.EventSyscall
		}
		if c.RIP != top.rip {
			m.Errorf("the program is at %#x, not at %#x", c.RIP, top.rip)
		}
	}
	m.lastRIP += 16
	top.rip = m.lastRIP
	m.mu.Unlock()
	e, ok := top.next()
	if !ok {
		e = userEvent{kind: amd64.EventSyscall}
		if !top.handler {
			e.call = func(t *Thread) (uint64, error) {
				if t == m.first {
					t.ExitGroup(0)
				} else {
					t.Exit(0)
				}
				return 0, nil
			}
		}
	}
	top.event = e
	c.RIP = top.rip
	if e.setup != nil {
		e.setup(c)
	}
	if e.kind == amd64.EventSyscall {
		c.OrigRAX, c.RAX = someSyscall, someSyscall
	}
	return e.kind
}

const threadFlags = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD | unix.CLONE_SYSVSEM

// spawn makes a thread that runs p and returns its id.
func (u *uprog) spawn(p program) int32 {
	const size, first = 0x8000, dataBase + 0x20000
	u.m.mu.Lock()
	if u.m.stackEnd += size; u.m.stackEnd >= dataBase+0x100000 || u.m.stackEnd < first {
		u.m.stackEnd = first // a test with more threads than that has no handlers
	}
	stack := u.m.stackEnd
	u.m.mu.Unlock()
	return u.clone(CloneArgs{Flags: threadFlags, Stack: stack}, p)
}

func (u *uprog) clone(a CloneArgs, p program) int32 {
	n := u.m.program(p)
	id := u.sys(func(t *Thread) (uint64, error) {
		t.Ctx.R12 = n
		tid, err := t.Clone(a)
		return uint64(tid), err
	})
	if id < 0 {
		u.m.Errorf("clone: %v", unix.Errno(-id))
	}
	return int32(id)
}

// on installs a handler.
func (u *uprog) on(sig unix.Signal, flags uint64, h func(*uprog, *Thread)) {
	addr := u.m.handler(h)
	if e := u.do(func(t *Thread) error {
		_, err := t.Proc.SetAction(Signal(sig), Action{Handler: addr, Flags: flags | SARestorer, Restorer: restorer})
		return err
	}); e != 0 {
		u.m.Errorf("rt_sigaction: %v", e)
	}
}

func (u *uprog) kill(sig unix.Signal) unix.Errno {
	return u.do(func(t *Thread) error { return t.Kill(t.Proc.PID, Signal(sig)) })
}

// later runs f on another goroutine after the thread had time to block.
func (u *uprog) later(f func()) { time.AfterFunc(20*time.Millisecond, f) }

func (u *uprog) expect(what string, got, want any) {
	u.m.Helper()
	if got != want {
		u.m.Errorf("%s: got %v, want %v", what, got, want)
	}
}
