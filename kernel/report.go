package kernel

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/arch/x86/x86asm"
	"golang.org/x/sys/unix"

	"elver/kernel/klog"
	"elver/kernel/mm"
)

// report writes a finished report to where reports go.
func (k *Kernel) report(text []byte) {
	if k.config.Report != nil {
		k.config.Report.Write(text)
		return
	}
	klog.Write(text)
}

// reportDeath reports that a signal ends the program: of the first process whenever it would dump core, of
// others if the log wants it. It runs on the goroutine of the thread that took the signal.
func (t *Thread) reportDeath(info Siginfo) {
	defer func() { // the disassembler reads what the program wrote
		if r := recover(); r != nil {
			klog.Errorf("%s[%d]: the report of its death by %v panicked: %v", t.Comm(), t.TID, Signal(info.Signo), r)
		}
	}()
	sig := Signal(info.Signo)
	first := t.Proc == t.k.first
	if !coreSignals.Has(sig) || !first && !klog.Enabled(klog.Info) {
		klog.Infof("%s", t.deathSentence(info))
		return
	}
	t.k.report(t.crashReport(info))
}

// deathSentence says in a sentence what killed the program.
func (t *Thread) deathSentence(info Siginfo) string {
	return fmt.Sprintf("%s: killed by %v: %s", t.Comm(), Signal(info.Signo), t.cause(info))
}

// cause says why a signal came.
func (t *Thread) cause(info Siginfo) string {
	c, addr := t.Ctx, info.Addr()
	switch {
	case info.Code == SIUser || info.Code == SITkill || info.Code == SIQueue:
		by := fmt.Sprintf("process %d", info.PID())
		if info.PID() == t.Proc.PID {
			by = "itself"
		}
		call := map[int32]string{SIUser: "kill", SITkill: "tgkill", SIQueue: "sigqueue"}[info.Code]
		return fmt.Sprintf("sent by %s with %s", by, call)
	case info.Code == SITimer:
		return "sent by a timer of its own"
	}
	switch Signal(info.Signo) {
	case sigSegv:
		access := "access to"
		switch info.Code {
		case SegvMapErr, SegvAccErr:
			access = map[mm.Access]string{mm.AccessRead: "read of", mm.AccessWrite: "write to", mm.AccessExec: "jump to"}[mm.FaultAccess(c.ErrorCode)]
		}
		switch info.Code {
		case SegvMapErr:
			return fmt.Sprintf("%s address %#x, which nothing is mapped at", access, addr)
		case SegvAccErr:
			return fmt.Sprintf("%s address %#x, which its mapping (%s) does not allow", access, addr, t.mapping(addr))
		case SIKernel:
			return fmt.Sprintf("general protection fault (exception %d) at %#x: an address that is not canonical, a privileged instruction, or a bad signal frame", c.Vector, c.RIP)
		}
	case Signal(unix.SIGBUS):
		if info.Code == BusAdrErr {
			return fmt.Sprintf("access to address %#x, which is behind the end of the mapped file or cannot be read (%s)", addr, t.mapping(addr))
		}
		return fmt.Sprintf("misaligned access or bad segment at %#x", c.RIP)
	case Signal(unix.SIGFPE):
		return map[int32]string{FPEIntDiv: "integer division by zero or overflow", FPEFltDiv: "floating-point division by zero",
			FPEFltOvf: "floating-point overflow", FPEFltUnd: "floating-point underflow", FPEFltRes: "inexact floating-point result",
			FPEFltInv: "invalid floating-point operation"}[info.Code] + fmt.Sprintf(" at %#x", c.RIP)
	case Signal(unix.SIGILL):
		return fmt.Sprintf("an instruction at %#x that the CPU does not know", c.RIP)
	case Signal(unix.SIGTRAP):
		return fmt.Sprintf("a breakpoint or single step at %#x", c.RIP)
	case Signal(unix.SIGXCPU):
		return "it has used more CPU time than RLIMIT_CPU allows"
	case Signal(unix.SIGXFSZ):
		return "a file would have become larger than RLIMIT_FSIZE allows"
	}
	return "sent by the kernel"
}

// mapping names the mapping that holds addr, with the offset in its file.
func (t *Thread) mapping(addr uint64) string {
	r, ok := t.region(addr)
	if !ok {
		return "no mapping"
	}
	rights := []byte("---p")
	for i, p := range []int{unix.PROT_READ, unix.PROT_WRITE, unix.PROT_EXEC} {
		if r.Prot&p != 0 {
			rights[i] = "rwx"[i]
		}
	}
	if r.Shared {
		rights[3] = 's'
	}
	name := r.Name
	if name == "" {
		name = "anonymous memory"
	}
	if r.File != nil {
		off := addr - r.Start + r.Offset
		function := ""
		if t.k.config.Symbol != nil {
			if s := t.k.config.Symbol(r.File, off); s != "" {
				function = s + ", "
			}
		}
		return fmt.Sprintf("%s%s+%#x %s %#x-%#x", function, name, off, rights, r.Start, r.End)
	}
	return fmt.Sprintf("%s %s %#x-%#x", name, rights, r.Start, r.End)
}

func (t *Thread) region(addr uint64) (mm.Region, bool) {
	as := t.MM()
	if as == nil {
		return mm.Region{}, false
	}
	return as.Region(addr)
}

// crashReport tells what a person needs to see why the program died: a sentence, registers, the code around
// RIP, the top of the stack.
func (t *Thread) crashReport(info Siginfo) []byte {
	c := t.Ctx
	b := fmt.Appendf(nil, "%s\n", t.deathSentence(info))
	b = fmt.Appendf(b, "  process %d, thread %d (%s)\n", t.Proc.PID, t.TID, t.Comm())
	b = fmt.Appendf(b, "  rip %016x  rsp %016x  rflags %08x  error %x  address %x\n", c.RIP, c.RSP, c.RFLAGS, c.ErrorCode, c.FaultAddress)
	registers := [...]struct {
		name  string
		value uint64
	}{{"rax", c.RAX}, {"rbx", c.RBX}, {"rcx", c.RCX}, {"rdx", c.RDX}, {"rsi", c.RSI}, {"rdi", c.RDI}, {"rbp", c.RBP}, {"r8 ", c.R8},
		{"r9 ", c.R9}, {"r10", c.R10}, {"r11", c.R11}, {"r12", c.R12}, {"r13", c.R13}, {"r14", c.R14}, {"r15", c.R15}, {"fs ", c.FSBase()}}
	for i, r := range registers {
		separator := "  "
		if i%4 == 3 {
			separator = "\n"
		}
		if i%4 == 0 {
			b = append(b, "  "...)
		}
		b = fmt.Appendf(b, "%s %016x%s", r.name, r.value, separator)
	}
	b = fmt.Appendf(b, "  rip is in %s\n", t.mapping(c.RIP))
	b = t.appendCode(b)
	return t.appendStack(b)
}

const (
	codeBefore       = 32 // bytes that are disassembled before RIP
	codeAfter        = 24
	longestInsn      = 15 // bytes (Intel SDM vol. 2, 2.3.11)
	stackWordsShown  = 8
	stackWordsInLine = 4
)

// appendCode disassembles around RIP, if there is memory to read.
func (t *Thread) appendCode(b []byte) []byte {
	rip := t.Ctx.RIP
	start := rip - codeBefore
	var code [codeBefore + codeAfter + longestInsn]byte
	n, _ := t.MM().CopyIn(code[:], start)
	if n <= codeBefore { // the page before is missing, perhaps
		start = rip
		if n, _ = t.MM().CopyIn(code[:codeAfter+longestInsn], start); n == 0 {
			return append(b, "  there is no code at rip\n"...)
		}
	}
	bytes := code[:n]
	for at := alignDecoding(bytes, int(rip-start)); at < len(bytes) && at < int(rip-start)+codeAfter; {
		mark := "  "
		if start+uint64(at) == rip {
			mark = "=>"
		}
		insn, err := x86asm.Decode(bytes[at:], 64)
		if err != nil {
			b = fmt.Appendf(b, "  %s %#x: (%02x)\n", mark, start+uint64(at), bytes[at])
			at++
			continue
		}
		b = fmt.Appendf(b, "  %s %#x: %s\n", mark, start+uint64(at), assembly(insn, start+uint64(at)))
		at += insn.Len
	}
	return b
}

// assembly returns an instruction as gas writes it. x86asm leaves out an operand that is an address of 0 alone,
// which is what a nil pointer makes.
func assembly(insn x86asm.Inst, pc uint64) string {
	text := x86asm.GNUSyntax(insn, pc, nil)
	if text != "" && strings.ContainsRune(" ,:", rune(text[len(text)-1])) {
		text += "0x0"
	}
	return strings.NewReplacer(" ,", " 0x0,", ":,", ":0x0,", ",,", ",0x0,").Replace(text)
}

// alignDecoding returns the first offset from which decoding instructions meets the one at rip; rip itself if
// there is none.
func alignDecoding(code []byte, rip int) int {
	for start := range rip {
		at := start
		for at < rip {
			insn, err := x86asm.Decode(code[at:], 64)
			if err != nil {
				break
			}
			at += insn.Len
		}
		if at == rip {
			return start
		}
	}
	return rip
}

func (t *Thread) appendStack(b []byte) []byte {
	var words [stackWordsShown * 8]byte
	rsp := t.Ctx.RSP
	n, _ := t.MM().CopyIn(words[:], rsp)
	if n < 8 {
		return fmt.Appendf(b, "  there is no stack at rsp %#x\n", rsp)
	}
	for at := 0; at+8 <= n; at += 8 {
		if at/8%stackWordsInLine == 0 {
			b = fmt.Appendf(b, "  stack %#x:", rsp+uint64(at))
		}
		b = fmt.Appendf(b, " %016x", binary.LittleEndian.Uint64(words[at:]))
		if at/8%stackWordsInLine == stackWordsInLine-1 || at+16 > n {
			b = append(b, '\n')
		}
	}
	return b
}
