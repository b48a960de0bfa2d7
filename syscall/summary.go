package syscall

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/runtime/metal"
)

// A tallied is what the summary knows of one system call.
type tallied struct {
	calls, errors atomic.Uint64
	ticks         atomic.Uint64 // of the TSC, from the call's begin to its end, waiting included
}

// tallies are those of the calls that were made, by number; the last is that of the numbers beyond
// the table. Only observe fills them.
var tallies [limit + 1]tallied

var counting bool

// maxMissing bounds how many missing files the summary names.
const maxMissing = 200

// missing counts by name the files that were looked for and not found.
var missing struct {
	sync.Mutex
	files  map[string]int // guarded by the mutex
	others int            // guarded by the mutex: found no room
}

// Count makes the kernel count system calls for WriteSummary: elver.summary=1. Precondition: no
// program runs yet.
func Count() {
	counting = true
	observed = true
	missing.files = make(map[string]int)
}

// tally counts t's call of that number, which has ended and began at begin.
func tally(t *kernel.Thread, number uint32, begin uint64) {
	y := &tallies[min(number, limit)]
	y.calls.Add(1)
	y.ticks.Add(metal.TSC() - begin)
	e := -int64(t.Ctx.RAX)
	if e <= 0 || e >= 4096 {
		return
	}
	y.errors.Add(1)
	if r := rowOf(number); r != nil && unix.Errno(e) == unix.ENOENT {
		missed(t, r)
	}
}

// missed counts the file that the call r of t did not find.
func missed(t *kernel.Thread, r *row) {
	i := slices.Index(r.args[:], path)
	if i < 0 {
		return
	}
	name, err := t.MM().CopyInString(argumentsOf(t.Ctx)[i], unix.PathMax)
	if err != nil || name == "" {
		return
	}
	missing.Lock()
	defer missing.Unlock()
	if _, known := missing.files[name]; known || len(missing.files) < maxMissing {
		missing.files[name]++
	} else {
		missing.others++
	}
}

// WriteSummary writes to w how often each system call was made and how long it took, names those that
// are missing or were served in part, and the files that were looked for and not found.
func WriteSummary(w io.Writer) {
	type entry struct {
		row                  *row
		calls, errors, ticks uint64
	}
	var made []entry
	var total entry
	for i := range rows {
		r := &rows[i]
		y := &tallies[r.number]
		e := entry{r, y.calls.Load(), y.errors.Load(), y.ticks.Load()}
		if e.calls == 0 {
			continue
		}
		made = append(made, e)
		total.calls += e.calls
		total.errors += e.errors
		total.ticks += e.ticks
	}
	slices.SortStableFunc(made, func(a, b entry) int { return cmp.Compare(b.calls, a.calls) })
	var b strings.Builder
	fmt.Fprintf(&b, "%10s %10s %12s %10s  %s\n", "calls", "errors", "seconds", "us/call", "system call")
	write := func(name string, e entry) {
		seconds := float64(e.ticks) / float64(metal.TSCFrequency())
		errors := ""
		if e.errors != 0 {
			errors = fmt.Sprint(e.errors)
		}
		fmt.Fprintf(&b, "%10d %10s %12.6f %10.2f  %s\n", e.calls, errors, seconds, seconds*1e6/float64(max(e.calls, 1)), name)
	}
	for _, e := range made {
		write(e.row.name, e)
	}
	write("total, waiting included", total)
	for _, e := range made {
		switch {
		case e.row.handler == nil:
			fmt.Fprintf(&b, "not implemented (ENOSYS): %s\n", e.row.name)
		case e.row.note != "":
			fmt.Fprintf(&b, "served in part: %s: %s\n", e.row.name, e.row.note)
		}
	}
	if n := tallies[limit].calls.Load(); n != 0 {
		fmt.Fprintf(&b, "numbers that Linux does not have: %d calls\n", n)
	}
	writeMissing(&b)
	io.WriteString(w, b.String())
}

func writeMissing(b *strings.Builder) {
	missing.Lock()
	defer missing.Unlock()
	names := make([]string, 0, len(missing.files))
	for name := range missing.files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(b, "not found: %q", name)
		if n := missing.files[name]; n > 1 {
			fmt.Fprintf(b, ", %d times", n)
		}
		b.WriteByte('\n')
	}
	if missing.others > 0 {
		fmt.Fprintf(b, "not found: %d more\n", missing.others)
	}
}
