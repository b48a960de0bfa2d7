//go:build !elver

package amd64

// Enter has no meaning on the host: there is no ring 3 to enter.
func (c *Context) Enter(root uint64) Event { panic("amd64: Enter on the host") }

// EnterProfiled has no meaning on the host either.
func (c *Context) EnterProfiled(root uint64) Event { panic("amd64: EnterProfiled on the host") }

// On the host every context's state is always in memory.
func (c *Context) spill()  {}
func (c *Context) reload() {}

// Release tells that the thread of c has ended.
func (c *Context) Release() {}

// AnswerAtEntry has no meaning on the host: no system call comes in.
func AnswerAtEntry(nr, i int) {}

// SuspendAnswers has no meaning on the host, either.
func SuspendAnswers(on bool) {}
