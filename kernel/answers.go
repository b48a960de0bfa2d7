package kernel

// Answers that the system call entry gives without the kernel, as indexes of amd64.Context.Answers:
// what only the kernel changes, and every thread asks for.
const (
	AnswerPID = iota
	AnswerTID
	AnswerPPID
	AnswerUID
	AnswerEUID
	AnswerGID
	AnswerEGID
)

// answer brings the thread's answers up to date. The thread itself calls it, before it enters the
// program.
func (t *Thread) answer() {
	a, c := &t.Ctx.Answers, t.Creds()
	a[AnswerPID], a[AnswerTID] = uint64(t.Proc.PID), uint64(t.TID)
	a[AnswerUID], a[AnswerEUID] = uint64(c.RUID), uint64(c.EUID)
	a[AnswerGID], a[AnswerEGID] = uint64(c.RGID), uint64(c.EGID)
	t.k.tree.Lock()
	a[AnswerPPID] = t.Proc.parentAnswer()
	t.k.tree.Unlock()
}

// answerParent brings the answers of all threads about the parent up to date. Precondition: tree is
// held.
func (p *Process) answerParent() {
	for _, t := range p.Threads() {
		t.Ctx.Answers[AnswerPPID] = p.parentAnswer()
	}
}

func (p *Process) parentAnswer() uint64 {
	if p.parent == nil {
		return 0
	}
	return uint64(p.parent.PID)
}
