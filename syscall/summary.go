package syscall

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
)

// counts are the calls that were made, by number; the last counts numbers beyond the table. Only
// observe counts.
var counts [limit + 1]atomic.Uint64

var counting bool

// Count makes the kernel count system calls for WriteSummary: elver.summary=1. Precondition: no
// program runs yet.
func Count() {
	counting = true
	observed = true
}

func count(number uint32) {
	if counting {
		counts[min(number, limit)].Add(1)
	}
}

// WriteSummary writes to w how often each system call was made, and names those that are missing or
// were served in part.
func WriteSummary(w io.Writer) {
	type entry struct {
		row   *row
		count uint64
	}
	var made []entry
	total := uint64(0)
	for i := range rows {
		r := &rows[i]
		if n := counts[r.number].Load(); n != 0 {
			made = append(made, entry{r, n})
			total += n
		}
	}
	slices.SortStableFunc(made, func(a, b entry) int { return cmp.Compare(b.count, a.count) })
	var b strings.Builder
	fmt.Fprintf(&b, "%10s  %s\n", "calls", "system call")
	for _, e := range made {
		fmt.Fprintf(&b, "%10d  %s\n", e.count, e.row.name)
	}
	fmt.Fprintf(&b, "%10d  total\n", total)
	for _, e := range made {
		switch {
		case e.row.handler == nil:
			fmt.Fprintf(&b, "not implemented (ENOSYS): %s\n", e.row.name)
		case e.row.note != "":
			fmt.Fprintf(&b, "served in part: %s: %s\n", e.row.name, e.row.note)
		}
	}
	if n := counts[limit].Load(); n != 0 {
		fmt.Fprintf(&b, "numbers that Linux does not have: %d calls\n", n)
	}
	io.WriteString(w, b.String())
}
