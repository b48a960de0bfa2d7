package kernel

import (
	"math/bits"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Handlers that are no address.
const (
	SigDfl = 0
	SigIgn = 1
)

// Action is what a process does about a signal (struct sigaction of rt_sigaction(2)).
type Action struct {
	Handler  uint64 // SigDfl, SigIgn or the address of a function
	Flags    uint64 // SANoCldStop and its kin
	Restorer uint64
	Mask     SigSet // blocked while the handler runs
}

// Flags of an Action (sigaction(2)).
const (
	SANoCldStop  = 0x1
	SANoCldWait  = 0x2
	SASiginfo    = 0x4
	SAExposeTags = 0x800
	SARestorer   = 0x04000000 // Restorer is valid
	SAOnStack    = 0x08000000
	SARestart    = 0x10000000
	SANoDefer    = 0x40000000
	SAResetHand  = 0x80000000
)

// knownActionFlags are the flags that Linux keeps: a program finds out by reading back what it asked
// for (SA_UNSUPPORTED; sigaction(2)).
const knownActionFlags = SANoCldStop | SANoCldWait | SASiginfo | SAOnStack | SARestart | SANoDefer | SAResetHand |
	SAExposeTags | SARestorer

// Actions is a table of actions. Processes share it that were made with CLONE_SIGHAND but not
// CLONE_THREAD.
type Actions struct {
	mu    sync.Mutex
	table [signals]Action // guarded by mu
}

func (a *Actions) get(sig Signal) Action {
	at := &a.table[sig-1]
	a.mu.Lock()
	action := *at
	a.mu.Unlock()
	return action
}

// handler returns what get says of the handler.
func (a *Actions) handler(sig Signal) uint64 {
	at := &a.table[sig-1]
	a.mu.Lock()
	handler := at.Handler
	a.mu.Unlock()
	return handler
}

// dispositions returns the signals that are ignored and those that are caught.
func (a *Actions) dispositions() (ignored, caught SigSet) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.table {
		switch a.table[i].Handler {
		case SigIgn:
			ignored |= SetOf(Signal(i + 1))
		case SigDfl:
		default:
			caught |= SetOf(Signal(i + 1))
		}
	}
	return ignored, caught
}

func (a *Actions) set(sig Signal, to Action) (old Action) {
	a.mu.Lock()
	defer a.mu.Unlock()
	old, a.table[sig-1] = a.table[sig-1], to
	return old
}

// SharesActions reports whether p and q have one table of actions (CLONE_SIGHAND).
func (p *Process) SharesActions(q *Process) bool { return p.actions == q.actions }

// fork returns a copy.
func (a *Actions) fork() *Actions {
	a.mu.Lock()
	defer a.mu.Unlock()
	return &Actions{table: a.table}
}

// reset gives every signal that has a handler its default action, and with ignored those that are
// ignored too (CLONE_CLEAR_SIGHAND does not: it leaves SigIgn).
func (a *Actions) reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.table {
		if a.table[i].Handler != SigIgn {
			a.table[i] = Action{}
		} else {
			a.table[i] = Action{Handler: SigIgn}
		}
	}
}

// queued is a pending signal that has information with it.
type queued struct {
	next  *queued
	info  Siginfo
	user  *user  // whose RLIMIT_SIGPENDING it counts against; nil: nobody's
	timer *Timer // whose expiry it is
}

// sigQueue is a set of pending signals, with the information of those for which there was room.
type sigQueue struct {
	set        SigSet
	head, tail *queued
	spare      *queued // one to use again: most of the time there is no other
}

// entry returns an entry to push.
func (s *sigQueue) entry() *queued {
	if q := s.spare; q != nil {
		s.spare = nil
		return q
	}
	return new(queued)
}

// free gives an entry back that was taken out.
func (s *sigQueue) free(q *queued) {
	if q.user != nil {
		q.user.signals.Add(-1)
	}
	q.next, q.user, q.timer = nil, nil, nil
	s.spare = q
}

func (s *sigQueue) push(q *queued) {
	if s.tail == nil {
		s.head = q
	} else {
		s.tail.next = q
	}
	s.tail = q
}

// take removes one signal sig from the queue.
func (s *sigQueue) take(sig Signal) (info Siginfo, timer *Timer) {
	var found, before, previous *queued
	more := false
	for q := s.head; q != nil; q = q.next {
		if Signal(q.info.Signo) == sig {
			if found != nil {
				more = true
				break
			}
			found, before = q, previous
		}
		previous = q
	}
	if !more {
		s.set &^= SetOf(sig)
	}
	if found == nil { // it came when the limit was reached
		return Siginfo{Signo: int32(sig), Code: SIUser}, nil
	}
	if before == nil {
		s.head = found.next
	} else {
		before.next = found.next
	}
	if s.tail == found {
		s.tail = before
	}
	info, timer = found.info, found.timer
	s.free(found)
	return info, timer
}

// drop removes all signals of set.
func (s *sigQueue) drop(set SigSet) {
	if s.set&set == 0 {
		return
	}
	var kept sigQueue
	kept.set = s.set &^ set
	for q := s.head; q != nil; {
		next := q.next
		q.next = nil
		if set.Has(Signal(q.info.Signo)) {
			dropped := taken{timer: q.timer}
			dropped.forgo()
			s.free(q)
		} else {
			kept.push(q)
		}
		q = next
	}
	kept.spare = s.spare
	*s = kept
}

// first returns the signal of set that is delivered first: those that an instruction caused, then the
// lowest number.
func (set SigSet) first() Signal {
	if s := set & synchronous; s != 0 {
		set = s
	}
	return Signal(bits.TrailingZeros64(uint64(set)) + 1)
}

// taken is a signal that was pending.
type taken struct {
	info  Siginfo
	timer *Timer
}

// finish returns the signal's information, complete. Precondition: no lock is held: a timer reads its clock,
// which may be the CPU time of the process.
func (s *taken) finish() Siginfo {
	if s.timer != nil {
		s.info.put32(4, uint32(s.timer.delivered()))
		s.timer = nil
	}
	return s.info
}

// forgo lets the timer of a signal go on that is ignored after all.
func (s *taken) forgo() {
	if timer := s.timer; timer != nil {
		timer.queued.Store(false)
		time.AfterFunc(minRearm, func() { timer.goOn(minRearm) })
	}
}

// dequeue takes the next pending signal that is not in blocked. Precondition: t.Proc.mu is held.
func (t *Thread) dequeue(blocked SigSet) (s taken, ok bool) {
	if set := t.pending.set &^ blocked; set != 0 {
		s.info, s.timer = t.pending.take(set.first())
	} else if set := t.Proc.shared.set &^ blocked; set != 0 {
		s.info, s.timer = t.Proc.shared.take(set.first())
	} else {
		return taken{}, false
	}
	return s, true
}

// recalc notes whether a signal can be delivered to t. Precondition: t.Proc.mu is held.
func (t *Thread) recalc() {
	if (t.pending.set|t.Proc.shared.set)&^t.mask != 0 {
		t.setWork(workSignal)
	} else if t.work.Load()&workSignal != 0 {
		t.clearWork(workSignal)
	}
}

// ignores reports whether the process drops sig when it comes to t. Precondition: mu is held.
func (p *Process) ignores(t *Thread, sig Signal) bool {
	if t.trace.Load() != nil {
		return false // the tracer wants to see it
	}
	if (t.mask | t.waitMask).Has(sig) {
		return false // it may have a handler by the time it is unblocked
	}
	switch p.actions.handler(sig) {
	case SigIgn:
		return sig != sigKill && sig != sigStop
	case SigDfl:
		return defaultIgnored.Has(sig)
	}
	return false
}

// Kill sends a signal to the process, without asking whether somebody may: for terminals, timers and the
// machine. EAGAIN when a real-time signal with information finds the queue full.
func (p *Process) Kill(sig Signal, info Siginfo) error { return p.send(nil, sig, info, nil) }

// Send sends a signal to the thread, without asking whether somebody may: SIGPIPE, SIGSYS.
func (t *Thread) Send(sig Signal, info Siginfo) error { return t.Proc.send(t, sig, info, nil) }

// send queues a signal for target, or if that is nil for the process, and wakes who shall take it.
func (p *Process) send(target *Thread, sig Signal, info Siginfo, timer *Timer) error {
	info.Signo = int32(sig)
	var n notices
	err := p.enqueue(target, sig, info, timer, &n)
	if n.signal {
		p.SignalEvents.Notify(waiter.EventIn)
	}
	if n.child != 0 {
		p.notifyStop(n.child)
	}
	return err
}

// notices are what a change under Process.mu has to tell once that is released.
type notices struct {
	signal bool  // Process.SignalEvents
	child  int32 // the parent gets a SIGCHLD with this code
}

func (p *Process) enqueue(target *Thread, sig Signal, info Siginfo, timer *Timer, n *notices) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exiting && sig == sigKill && !p.killed {
		p.killed = true // whoever stops at its end for a tracer goes on
		for _, t := range p.threads {
			t.Wake()
		}
	}
	if p.exiting || len(p.threads) == 0 || target != nil && target.exited || p.unkillable && p.refuses(sig) {
		return nil
	}
	p.continueOrStop(sig, n)
	checked := target
	if checked == nil {
		checked = p.threads[0]
	}
	if p.ignores(checked, sig) {
		return nil
	}
	queue := &p.shared
	if target != nil {
		queue = &target.pending
	}
	if !sig.realtime() && queue.set.Has(sig) {
		return nil
	}
	if q := p.charge(queue, sig, &info, timer); q != nil {
		q.info, q.timer = info, timer
		queue.push(q)
	} else if sig.realtime() && info.Code != SIUser {
		return unix.EAGAIN
	}
	if timer != nil {
		timer.queued.Store(true)
	}
	queue.set |= SetOf(sig)
	n.signal = true
	p.wakeFor(target, sig)
	return nil
}

// charge returns an entry for queue that counts against the limit of the process's user, or nil when that is
// reached: SIGKILL needs none, and a standard signal of the kernel's is never left without.
func (p *Process) charge(queue *sigQueue, sig Signal, info *Siginfo, timer *Timer) *queued {
	if sig == sigKill {
		return nil
	}
	u := p.k.user(p.Creds().RUID)
	override := !sig.realtime() && (info.Code >= 0 && info.Code != SIUser || info.Code == SIKernel) || timer != nil
	if n := u.signals.Add(1); !override && uint64(n) > p.Limits.Soft(rlimitSigpending) {
		u.signals.Add(-1)
		return nil
	}
	q := queue.entry()
	q.user = u
	return q
}

// continueOrStop lets SIGCONT and the stop signals cancel each other, whatever is blocked or ignored.
// Precondition: mu is held.
func (p *Process) continueOrStop(sig Signal, n *notices) {
	var cancelled SigSet
	switch {
	case stopSignals.Has(sig):
		cancelled = SetOf(sigCont)
	case sig == sigCont:
		cancelled = stopSignals
	case sig == sigKill && p.stopSig != 0:
	default:
		return
	}
	p.shared.drop(cancelled)
	for _, t := range p.threads {
		t.pending.drop(cancelled)
		if tr := t.trace.Load(); tr != nil && tr.seized && sig == sigCont {
			t.noticeTracer(tr)
		}
	}
	if sig != sigCont && sig != sigKill || p.stopSig == 0 {
		return
	}
	if sig == sigCont && p.stopCount == 0 {
		n.child = CLDContinued
	}
	p.stopSig, p.stopCount = 0, 0
	for _, t := range p.threads {
		t.clearWork(workStop)
		t.Wake()
	}
}

// wakeFor wakes the thread that shall take sig, or ends the process at once when nobody can do anything
// about it. Precondition: mu is held.
func (p *Process) wakeFor(target *Thread, sig Signal) {
	t := target
	if t == nil {
		t = p.taker(sig)
	} else if !t.wants(sig) {
		t = nil
	}
	if t == nil {
		return
	}
	fatal := !(defaultIgnored | stopSignals).Has(sig) && p.actions.handler(sig) == SigDfl
	if fatal && (sig == sigKill || t.trace.Load() == nil && !coreSignals.Has(sig) && !t.waitMask.Has(sig)) {
		p.beginExitLocked(Killed(sig))
		return
	}
	t.setWork(workSignal)
	t.Wake()
}

// wants reports whether t would take sig now. Precondition: Proc.mu is held.
func (t *Thread) wants(sig Signal) bool {
	return !t.exited && (sig == sigKill || !t.mask.Has(sig))
}

// taker chooses the thread that takes a signal of the process: the leader, else one that has no other to
// take, else any that wants it. Precondition: mu is held.
func (p *Process) taker(sig Signal) *Thread {
	var busy *Thread
	for _, t := range p.threads {
		if !t.wants(sig) {
			continue
		}
		if t.work.Load()&workSignal == 0 {
			return t
		}
		if busy == nil {
			busy = t
		}
	}
	return busy
}

// Force sends t a signal that it cannot escape, because the instruction that caused it would only repeat: if
// it is blocked or ignored, its default action is taken (Linux: force_sig_info). It is called on t's own
// goroutine.
func (t *Thread) Force(info Siginfo) { t.force(info, false) }

func (t *Thread) force(info Siginfo, fatal bool) {
	sig := Signal(info.Signo)
	p := t.Proc
	p.mu.Lock()
	defer p.mu.Unlock()
	if blocked := t.mask.Has(sig); fatal || blocked || p.actions.handler(sig) == SigIgn {
		p.actions.set(sig, Action{})
		t.mask &^= SetOf(sig)
	}
	t.pending.drop(SetOf(sig)) // what is forced comes first, with its own information
	q := t.pending.entry()
	q.info = info
	t.pending.push(q)
	t.pending.set |= SetOf(sig)
	t.setWork(workSignal)
}

// Action returns what the process does about sig. Precondition: sig is valid.
func (p *Process) Action(sig Signal) Action { return p.actions.get(sig) }

// SetAction implements rt_sigaction(2) and returns the former action: EINVAL for SIGKILL, SIGSTOP and what is
// no signal.
func (p *Process) SetAction(sig Signal, a Action) (old Action, err error) {
	if !sig.Valid() || unblockable.Has(sig) {
		return Action{}, unix.EINVAL
	}
	a.Mask &^= unblockable
	a.Flags &= knownActionFlags
	old = p.actions.set(sig, a)
	if a.Handler == SigIgn || a.Handler == SigDfl && defaultIgnored.Has(sig) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.shared.drop(SetOf(sig))
		for _, t := range p.threads {
			t.pending.drop(SetOf(sig))
		}
	}
	return old, nil
}

// Mask returns the signals that the thread blocks.
func (t *Thread) Mask() SigSet { return t.mask }

// SetMask blocks the signals of s and no others; SIGKILL and SIGSTOP never are.
func (t *Thread) SetMask(s SigSet) {
	s &^= unblockable
	if s == t.mask {
		return
	}
	t.Proc.mu.Lock()
	t.setMaskLocked(s) // nothing in it can panic
	t.Proc.mu.Unlock()
}

func (t *Thread) setMaskLocked(s SigSet) {
	p := t.Proc
	added := s &^ t.mask
	t.mask = s
	t.recalc()
	if p.shared.set&added != 0 { // others have to take what t won't any more
		for _, o := range p.threads {
			if o != t && p.shared.set&added&^o.mask != 0 {
				o.setWork(workSignal)
				o.Wake()
			}
		}
	}
}

// SetTemporaryMask blocks the signals of s and no others until the system call is over and the signal
// that ended it has its handler set up: for sigsuspend, ppoll, pselect6 and epoll_pwait. The call ends
// by ERESTARTNOHAND or EINTR if it was interrupted, else the handler calls RestoreMask.
func (t *Thread) SetTemporaryMask(s SigSet) {
	t.savedMask = t.mask
	t.setWork(workMask)
	t.SetMask(s)
}

// RestoreMask undoes SetTemporaryMask.
func (t *Thread) RestoreMask() {
	if t.work.Load()&workMask != 0 {
		t.clearWork(workMask)
		t.SetMask(t.savedMask)
	}
}

// Pending returns the pending signals that are blocked (rt_sigpending(2)).
func (t *Thread) Pending() SigSet { return t.PendingIn(t.mask) }

// PendingIn returns the pending signals of set.
func (t *Thread) PendingIn(set SigSet) SigSet {
	t.Proc.mu.Lock()
	defer t.Proc.mu.Unlock()
	return (t.pending.set | t.Proc.shared.set) & set
}

// SignalState returns what /proc/PID/status shows: the signals pending for the thread and for the
// process, those blocked, ignored and caught.
func (t *Thread) SignalState() (pending, shared, blocked, ignored, caught SigSet) {
	p := t.Proc
	p.mu.Lock()
	defer p.mu.Unlock()
	ignored, caught = p.actions.dispositions()
	return t.pending.set, p.shared.set, t.mask, ignored, caught
}

// DequeueSignal takes a pending signal of set, for signalfd. Process.SignalEvents tells of new ones.
func (t *Thread) DequeueSignal(set SigSet) (Siginfo, bool) {
	t.Proc.mu.Lock()
	s, ok := t.dequeue(^(set &^ unblockable))
	t.recalc()
	t.Proc.mu.Unlock()
	return s.finish(), ok
}

// Pause is pause(2).
func (t *Thread) Pause() error {
	t.PrepareBlock()
	for {
		if err := t.Block(Never); err != nil {
			return ERESTARTNOHAND
		}
	}
}

// SigSuspend is rt_sigsuspend(2).
func (t *Thread) SigSuspend(mask SigSet) error {
	t.SetTemporaryMask(mask)
	return t.Pause()
}

// SigTimedWait is rt_sigtimedwait(2): EAGAIN after d, EINTR when a signal outside of set comes.
func (t *Thread) SigTimedWait(set SigSet, d Deadline) (Siginfo, error) {
	t.PrepareBlock()
	s, err := t.sigTimedWait(set&^unblockable, d)
	return s.finish(), err
}

func (t *Thread) sigTimedWait(set SigSet, d Deadline) (taken, error) {
	p := t.Proc
	p.mu.Lock()
	defer p.mu.Unlock()
	s, ok := t.dequeue(^set)
	if ok || d.Passed() {
		t.recalc()
		if !ok {
			return s, unix.EAGAIN
		}
		return s, nil
	}
	t.waitMask = t.mask
	t.mask &^= set
	t.recalc()
	var err error
	for !ok && err == nil {
		p.mu.Unlock()
		err = t.Block(d)
		p.mu.Lock()
		s, ok = t.dequeue(^set)
	}
	t.mask, t.waitMask = t.waitMask, 0
	t.recalc()
	switch {
	case ok:
		return s, nil
	case err == unix.ETIMEDOUT:
		return s, unix.EAGAIN
	}
	return s, unix.EINTR
}

// AltStack is stack_t of sigaltstack(2).
type AltStack struct {
	SP    uint64
	Flags int32
	Size  uint64
}

const (
	ssOnStack    = 1
	ssDisable    = 2
	ssAutodisarm = -1 << 31

	// MinSigStackSize is MINSIGSTKSZ, what sigaltstack(2) asks for. AT_MINSIGSTKSZ is more: see
	// amd64.SignalFrameSize.
	MinSigStackSize = 2048
)

// holds reports whether the stack pointer is on the alternate stack.
func (a *AltStack) holds(sp uint64) bool { return sp > a.SP && sp-a.SP <= a.Size }

// state returns the flags that sigaltstack(2) reports for that stack pointer.
func (a *AltStack) state(sp uint64) int32 {
	switch {
	case a.Size == 0:
		return ssDisable
	case a.Flags&ssAutodisarm == 0 && a.holds(sp):
		return ssOnStack
	}
	return 0
}

// SigAltStack implements sigaltstack(2); set nil only asks. EPERM while the thread is on the stack, EINVAL for
// flags that there are not, ENOMEM for less than MinSigStackSize.
func (t *Thread) SigAltStack(set *AltStack) (old AltStack, err error) {
	a := &t.altStack
	sp := t.Ctx.RSP
	old = AltStack{SP: a.SP, Size: a.Size, Flags: a.state(sp) | a.Flags&ssAutodisarm}
	if set == nil {
		return old, nil
	}
	if a.state(sp) == ssOnStack {
		return old, unix.EPERM
	}
	switch mode := set.Flags &^ ssAutodisarm; {
	case mode != 0 && mode != ssOnStack && mode != ssDisable:
		return old, unix.EINVAL
	case mode == ssDisable:
		*a = AltStack{Flags: set.Flags}
	case set.Size < MinSigStackSize:
		return old, unix.ENOMEM
	default:
		*a = *set
	}
	return old, nil
}

// MayKill returns EPERM if t must not send sig to p (kill(2)).
func (t *Thread) MayKill(p *Process, sig Signal) error {
	if t.Proc == p {
		return nil
	}
	c, o := t.Creds(), p.Creds()
	if same(c.EUID, o.SUID, o.RUID) || same(c.RUID, o.SUID, o.RUID) || c.HasCap(unix.CAP_KILL) {
		return nil
	}
	if sig == sigCont && t.Proc.Group().Session() == p.Group().Session() {
		return nil
	}
	return unix.EPERM
}

// killOne checks the permission, and sends unless sig is 0.
func (t *Thread) killOne(p *Process, sig Signal, info Siginfo) error {
	if err := t.MayKill(p, sig); err != nil || sig == 0 {
		return err
	}
	return p.Kill(sig, info)
}

// Kill is kill(2). Signal 0 only checks.
func (t *Thread) Kill(pid int32, sig Signal) error {
	if sig != 0 && !sig.Valid() {
		return unix.EINVAL
	}
	info := t.UserInfo(sig, SIUser)
	var to []*Process
	k := t.k
	k.tree.Lock()
	switch {
	case pid > 0:
		if o := k.threads[pid]; o != nil {
			to = append(to, o.Proc)
		}
	case pid == -1:
		for tid, o := range k.threads {
			if o.Proc.PID == tid && o.Proc != t.Proc && o.Proc != k.init {
				to = append(to, o.Proc)
			}
		}
	case pid == 0:
		to = slices.Clone(t.Proc.group.members)
	case pid != -1<<31:
		if g := k.groups[-pid]; g != nil {
			to = slices.Clone(g.members)
		}
	}
	k.tree.Unlock()
	if len(to) == 0 {
		return unix.ESRCH
	}
	var failed error
	sent := false
	for _, p := range to {
		if err := t.killOne(p, sig, info); err != nil {
			failed = err
		} else {
			sent = true
		}
	}
	if sent || pid == -1 && failed == unix.EPERM && len(to) > 1 {
		return nil
	}
	return failed
}

// TGKill is tgkill(2), and with tgid 0 tkill(2). Signal 0 only checks.
func (t *Thread) TGKill(tgid, tid int32, sig Signal) error {
	return t.killThread(tgid, tid, sig, t.UserInfo(sig, SITkill))
}

func (t *Thread) killThread(tgid, tid int32, sig Signal, info Siginfo) error {
	if tid <= 0 || tgid < 0 || sig != 0 && !sig.Valid() {
		return unix.EINVAL
	}
	o := t
	if tid != t.TID {
		o = t.k.Thread(tid)
	}
	if o == nil || tgid != 0 && o.Proc.PID != tgid {
		return unix.ESRCH
	}
	if err := t.MayKill(o.Proc, sig); err != nil || sig == 0 {
		return err
	}
	return o.Send(sig, info)
}

// SigQueueInfo is rt_sigqueueinfo(2): EPERM for a forged siginfo of the kernel's or of tkill to another
// process.
func (t *Thread) SigQueueInfo(pid int32, sig Signal, info Siginfo) error {
	if (info.Code >= 0 || info.Code == SITkill) && pid != t.Proc.PID {
		return unix.EPERM
	}
	if sig != 0 && !sig.Valid() {
		return unix.EINVAL
	}
	o := t.k.Thread(pid)
	if o == nil {
		return unix.ESRCH
	}
	return t.killOne(o.Proc, sig, info)
}

// SignalProcess is pidfd_send_signal(2), as kill(2) does it if info is nil: EPERM as SigQueueInfo, ESRCH for
// a process that is no more.
func (t *Thread) SignalProcess(p *Process, sig Signal, info *Siginfo) error {
	if sig != 0 && !sig.Valid() {
		return unix.EINVAL
	}
	if info == nil {
		i := t.UserInfo(sig, SIUser)
		info = &i
	} else if p != t.Proc && (info.Code >= 0 || info.Code == SITkill) {
		return unix.EPERM
	}
	if _, gone := p.Ended(); gone {
		return unix.ESRCH
	}
	return t.killOne(p, sig, *info)
}

// TGSigQueueInfo is rt_tgsigqueueinfo(2).
func (t *Thread) TGSigQueueInfo(tgid, tid int32, sig Signal, info Siginfo) error {
	if tgid <= 0 || tid <= 0 {
		return unix.EINVAL
	}
	if (info.Code >= 0 || info.Code == SITkill) && tid != t.TID {
		return unix.EPERM
	}
	return t.killThread(tgid, tid, sig, info)
}
