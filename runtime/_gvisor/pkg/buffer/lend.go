package buffer

// Lend returns what makes views of a part of memory that isn't the Go heap's. There is one of them at a time: when it
// and all its clones are gone, back is called, and the memory may be lent again.
func Lend(memory []byte, back func()) (lend func(from, to int) *View) {
	c := &chunk{back: back}
	return func(from, to int) *View {
		c.data = memory[:to:to]
		c.InitRefs()
		v := viewPool.Get().(*View)
		*v = View{read: from, write: to, chunk: c}
		return v
	}
}
