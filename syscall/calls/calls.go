// Package calls tells on any host which of Linux's system calls Elver serves: what elver inspect compares a
// program with. Its table is made of the kernel's own by a test in elver/syscall, which fails when the two
// differ:
//
//	UPDATE=1 go test ./syscall -run TestCallsAreCurrent
package calls

// State is how a system call is served.
type State string

const (
	Served  State = "served"
	Partial State = "in part"
	Missing State = "missing" // it answers ENOSYS
)

// Call is a system call of Linux on x86-64.
type Call struct {
	Number int
	Name   string
	State  State
	Note   string // what is left out
}

// Table returns all of them, by number.
func Table() []Call { return table[:] }

// ByNumber returns the call of a number, or false: Linux has none.
func ByNumber(n int) (Call, bool) {
	for _, c := range table {
		if c.Number == n {
			return c, true
		}
	}
	return Call{}, false
}
