package syscall

import (
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"elver/arch/amd64"
	"elver/kernel"
	"elver/runtime/metal"
)

// observed says that calls are traced or counted, which costs the others one predictable branch. It
// is set before the first program runs, and never again.
var observed bool

// tracer writes what the program does in strace's notation, one Write per line.
//
// A line is begun when the call is entered and written when it ends. If another thread has something
// to write meanwhile, or the call takes long, the line is written as unfinished and the rest follows
// as resumed.
type tracer struct {
	mu      sync.Mutex
	w       io.Writer
	calls   *Selection         // nil: all
	stamps  bool               // lines begin with the time
	current *tracedCall        // guarded by mu: begun, not yet written
	threads map[int32]struct{} // guarded by mu: threads that were seen and have not ended
	line    []byte             // guarded by mu: scratch
	late    *time.Timer        // guarded by mu: writes current when it takes long
}

var trace *tracer

// slowCall is how long a call may take before its line is written as unfinished.
const slowCall = 250 * time.Millisecond

// Trace writes the system calls of the program that are in calls, or all if it is nil, to w in the
// notation of strace(1): elver.strace. With stamps, lines begin with the seconds since the machine
// started: elver.timestamps. Precondition: no program runs yet.
func Trace(w io.Writer, calls *Selection, stamps bool) {
	trace = &tracer{w: w, calls: calls, stamps: stamps, threads: make(map[int32]struct{})}
	trace.late = time.AfterFunc(time.Hour, trace.flushLate)
	trace.late.Stop()
	observed = true
}

// tracedCall is a system call of a thread that is being traced.
type tracedCall struct {
	printer
	tid        int32
	number     uint32
	done       int    // arguments that are printed
	first      []byte // the first half, which never changes: flush may read it while leave formats
	unfinished bool   // guarded by tracer.mu: the first half is written
}

// observe serves a call as Dispatch does, traced and counted.
func observe(t *kernel.Thread, number uint32) {
	if counting {
		defer tally(t, number, metal.TSC())
	}
	if trace == nil || !trace.calls.has(number) {
		serve(t, number)
		return
	}
	c := &tracedCall{printer: printer{t: t, values: argumentsOf(t.Ctx)}, tid: t.TID, number: number}
	c.enter()
	ends := number == unix.SYS_EXIT || number == unix.SYS_EXIT_GROUP
	if ends {
		c.text = append(append([]byte(nil), c.first...), ')')
		trace.finish(c, []byte("= ?\n"))
	}
	serve(t, number)
	if !ends {
		c.leave(t.Ctx.RAX)
	}
}

func argumentsOf(r *amd64.Context) [6]uint64 {
	return [6]uint64{r.RDI, r.RSI, r.RDX, r.R10, r.R8, r.R9}
}

// enter formats what is known when the call begins.
func (c *tracedCall) enter() {
	r := rowOf(c.number)
	if r == nil {
		c.text = append(c.text, "syscall_0x"...)
		c.text = strconv.AppendUint(c.text, uint64(c.number), 16)
		c.text = append(c.text, '(')
		for i, v := range c.values {
			if i > 0 {
				c.text = append(c.text, ", "...)
			}
			c.hex(v)
		}
	} else {
		c.entry = c.entryLength(r)
		c.text = append(c.text, r.name...)
		c.text = append(c.text, '(')
		c.arguments(r)
	}
	c.first = c.text
	trace.begin(c)
}

// arguments prints those that come next and are known by now.
func (c *tracedCall) arguments(r *row) {
	for c.done < len(r.args) && r.args[c.done] != none {
		k := r.args[c.done]
		if k > outKinds && !c.after {
			if c.done > 0 {
				c.text = append(c.text, ", "...)
			}
			return
		}
		if k == hidden {
			c.done++
			continue
		}
		if before := len(c.text); c.done > 0 && c.text[before-1] != ' ' {
			c.text = append(c.text, ", "...)
			mark := len(c.text)
			c.argument(k, c.done)
			if len(c.text) == mark { // the argument says nothing in this call
				c.text = c.text[:before]
			}
		} else {
			c.argument(k, c.done)
		}
		c.done++
	}
}

// leave formats the rest once the call has ended with rax.
func (c *tracedCall) leave(rax uint64) {
	c.text = append(make([]byte, 0, 2*len(c.first)+64), c.first...)
	c.after = true
	c.result = rax
	if e := -int64(rax); e > 0 && e < 4096 {
		c.errno = unix.Errno(e)
	}
	r := rowOf(c.number)
	if r != nil {
		c.arguments(r)
	}
	c.text = append(c.text, ')')
	result := c.printer
	result.text = []byte("= ")
	result.printResult(r)
	trace.finish(c, append(result.text, '\n'))
}

func (tr *tracer) begin(c *tracedCall) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.threads[c.tid] = struct{}{}
	tr.flush()
	tr.current = c
	tr.late.Reset(slowCall)
}

// resultColumn is where strace writes results.
const resultColumn = 40

// finish writes the line, or what of it isn't written yet, with the result.
func (tr *tracer) finish(c *tracedCall, result []byte) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if tr.current == c {
		tr.current = nil
		tr.late.Stop()
	} else {
		tr.flush()
	}
	tr.prefix(c.tid)
	if c.unfinished {
		tr.line = append(tr.line, "<... "...)
		tr.line = append(tr.line, Name(c.number)...)
		tr.line = append(tr.line, " resumed>"...)
		tr.line = append(tr.line, c.text[len(c.first):]...)
	} else {
		tr.line = append(tr.line, c.text...)
	}
	column := resultColumn
	if tr.stamps {
		column += len("123456.123456 ")
	}
	for len(tr.line) < column-1 {
		tr.line = append(tr.line, ' ')
	}
	tr.line = append(tr.line, ' ')
	tr.line = append(tr.line, result...)
	tr.write()
}

// flush writes the line that is begun as unfinished. Precondition: mu is held.
func (tr *tracer) flush() {
	c := tr.current
	if c == nil {
		return
	}
	tr.current = nil
	tr.late.Stop()
	c.unfinished = true
	tr.prefix(c.tid)
	tr.line = append(tr.line, c.first...)
	tr.line = append(tr.line, " <unfinished ...>\n"...)
	tr.write()
}

func (tr *tracer) flushLate() {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.flush()
}

// prefix begins a line of thread tid. Precondition: mu is held.
func (tr *tracer) prefix(tid int32) {
	tr.line = tr.line[:0]
	if tr.stamps {
		tr.line = fmt.Appendf(tr.line, "%12.6f ", float64(metal.Nanotime())/1e9)
	}
	if len(tr.threads) < 2 {
		return
	}
	tr.line = append(tr.line, "[pid "...)
	number := strconv.Itoa(int(tid))
	for range max(5-len(number), 0) {
		tr.line = append(tr.line, ' ')
	}
	tr.line = append(tr.line, number...)
	tr.line = append(tr.line, "] "...)
}

func (tr *tracer) write() { tr.w.Write(tr.line) }

// TraceSignal writes the line of a signal that is delivered to t. It costs nothing when nothing is
// traced.
func TraceSignal(t *kernel.Thread, info kernel.Siginfo) {
	if trace != nil {
		traceSignal(t, &info)
	}
}

func traceSignal(t *kernel.Thread, info *kernel.Siginfo) {
	p := printer{t: t}
	p.add("--- ")
	p.signal(int64(info.Signo))
	p.add(" ")
	p.siginfo(info)
	p.add(" ---\n")
	trace.note(t.TID, p.text, false)
}

// TraceExit writes the line of a thread's end. It costs nothing when nothing is traced.
func TraceExit(t *kernel.Thread, status kernel.ExitStatus) {
	if trace == nil {
		return
	}
	var p printer
	if sig := status.Signal(); sig != 0 {
		p.add("+++ killed by ")
		p.signal(int64(sig))
		if status&0x80 != 0 {
			p.add(" (core dumped)")
		}
	} else {
		p.add("+++ exited with ")
		p.signed(int64(status.Code()))
	}
	p.add(" +++\n")
	trace.note(t.TID, p.text, true)
}

func (tr *tracer) note(tid int32, text []byte, gone bool) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.flush()
	tr.prefix(tid)
	tr.line = append(tr.line, text...)
	tr.write()
	if gone {
		delete(tr.threads, tid)
	}
}
