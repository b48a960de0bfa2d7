package syscall

import (
	"encoding/binary"
	"math/bits"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/net"
)

// Limits of what strace shows.
const (
	maxString   = 32   // bytes of a string or of data
	maxElements = 32   // of an array
	maxPath     = 4096 // bytes of a path
)

// printer writes arguments in strace's notation. It reads the program's memory, and holds no lock.
type printer struct {
	t      *kernel.Thread
	values [6]uint64
	after  bool // the call has ended with result and errno
	result uint64
	errno  unix.Errno
	entry  uint32 // entryLength when the call began
	text   []byte
}

func (p *printer) add(s string)      { p.text = append(p.text, s...) }
func (p *printer) signed(v int64)    { p.text = strconv.AppendInt(p.text, v, 10) }
func (p *printer) unsigned(v uint64) { p.text = strconv.AppendUint(p.text, v, 10) }

func (p *printer) hex(v uint64) {
	p.add("0x")
	p.text = strconv.AppendUint(p.text, v, 16)
}

func (p *printer) pointer(v uint64) {
	if v == 0 {
		p.add("NULL")
		return
	}
	p.hex(v)
}

// hexZero is strace's %#x: 0 stays 0.
func (p *printer) hexZero(v uint64) {
	if v == 0 {
		p.add("0")
		return
	}
	p.hex(v)
}

// fetch reads n bytes of the program; if they are not there it prints the address and returns nil.
func (p *printer) fetch(addr uint64, n int) []byte {
	if addr == 0 {
		p.add("NULL")
		return nil
	}
	b := make([]byte, n)
	if got, err := p.t.MM().CopyIn(b, addr); err != nil || got < n {
		p.hex(addr)
		return nil
	}
	return b
}

// fetchOut is fetch for what the call writes, which a call that failed did not.
func (p *printer) fetchOut(addr uint64, n int) []byte {
	if p.errno != 0 {
		p.pointer(addr)
		return nil
	}
	return p.fetch(addr, n)
}

func word(b []byte, offset int) uint64     { return binary.LittleEndian.Uint64(b[offset:]) }
func halfword(b []byte, offset int) uint32 { return binary.LittleEndian.Uint32(b[offset:]) }

// argument prints argument i as k.
func (p *printer) argument(k kind, i int) {
	v := p.values[i]
	if k > flagKinds && k < lastFlags {
		switch k {
		case clock, rusageWho, schedPolicy, itimer, priorityWhich, whence, madvice:
			p.flags(k, uint64(int64(int32(v))))
		default:
			p.flags(k, v)
		}
		return
	}
	switch k {
	case signed, fd:
		p.signed(int64(int32(v)))
	case unsigned:
		p.unsigned(uint64(uint32(v)))
	case size:
		p.unsigned(v)
	case offset:
		p.signed(int64(v))
	case hex:
		p.hexZero(v)
	case octal:
		p.mode(v)
	case pointer:
		p.pointer(v)
	case dirFD:
		if int32(v) == unix.AT_FDCWD {
			p.add("AT_FDCWD")
		} else {
			p.signed(int64(int32(v)))
		}
	case path:
		p.cString(v, maxPath)
	case str:
		p.cString(v, maxString)
	case dataIn:
		p.data(v, p.values[i+1], false)
	case dataOut, dataOutHex:
		p.dataOut(k, v)
	case stringOut:
		if p.errno != 0 {
			p.pointer(v)
		} else {
			p.cString(v, maxPath)
		}
	case stringArray:
		p.stringArray(v)
	case environment:
		p.environment(v)
	case iovecIn:
		p.iovec(v, p.values[i+1], 1<<63)
	case iovecOut:
		if p.errno != 0 {
			p.pointer(v)
		} else {
			p.iovec(v, p.values[i+1], p.result)
		}
	case sockaddrIn:
		p.sockaddr(v, p.values[i+1])
	case sockaddrOut:
		p.sockaddrOut(i, v)
	case lengthInOut:
		p.lengthInOut(v)
	case socketProtocol:
		p.protocol(v)
	case optionName:
		p.optionName(v)
	case optionIn:
		p.optionValue(v, int(int32(p.values[i+1])))
	case optionOut:
		p.optionOut(v)
	case messageIn:
		p.message(v, 1<<63, false, net.MaxAddress)
	case messageOut:
		p.messageOut(v)
	case messagesIn, messagesOut:
		p.messages(v, k == messagesOut)
	case signal:
		p.signal(int64(int32(v)))
	case device:
		if typ := p.values[i-1] & unix.S_IFMT; typ == unix.S_IFCHR || typ == unix.S_IFBLK {
			p.device(v)
		}
	case fileMode:
		p.fileMode(v)
	case mremapAddress:
		if p.values[i-1]&(unix.MREMAP_FIXED|unix.MREMAP_DONTUNMAP) != 0 {
			p.pointer(v)
		}
	case openMode:
		if p.values[i-1]&(unix.O_CREAT|unix.O_TMPFILE&^unix.O_DIRECTORY) != 0 {
			p.mode(v)
		}
	default:
		p.structure(k, i, v)
	}
}

// structure prints the arguments that point to something with parts.
func (p *printer) structure(k kind, i int, v uint64) {
	switch k {
	case openHow:
		if b := p.fetch(v, 24); b != nil {
			p.add("{flags=")
			p.flags(openFlags, word(b, 0))
			if m := word(b, 8); m != 0 {
				p.add(", mode=")
				p.mode(m)
			}
			p.add(", resolve=")
			p.flags(resolveFlags, word(b, 16))
			p.add("}")
		}
	case cloneCall:
		p.clone()
	case clone3Args:
		p.clone3(v)
	case fcntlArg:
		p.fcntlArg(v)
	case prctlArg:
		p.prctlArg(v)
	case futexValue, futexTimeout, futexValue3:
		p.futex(k, v)
	case timespecIn:
		p.timespec(p.fetch(v, 16), "nsec")
	case timespecOut:
		p.timespec(p.fetchOut(v, 16), "nsec")
	case timespecLeft:
		if p.errno == kernel.ERESTART_RESTARTBLOCK || p.errno == unix.EINTR {
			p.timespec(p.fetch(v, 16), "nsec")
		} else {
			p.pointer(v)
		}
	case timevalIn:
		p.timespec(p.fetch(v, 16), "usec")
	case timevalOut:
		p.timespec(p.fetchOut(v, 16), "usec")
	case timespecPairIn:
		p.timePair(p.fetch(v, 32), "nsec")
	case timevalPairIn:
		p.timePair(p.fetch(v, 32), "usec")
	case timezoneOut:
		if b := p.fetchOut(v, 8); b != nil {
			p.add("{tz_minuteswest=")
			p.signed(int64(int32(halfword(b, 0))))
			p.add(", tz_dsttime=")
			p.signed(int64(int32(halfword(b, 4))))
			p.add("}")
		}
	case itimervalIn:
		p.interval(p.fetch(v, 32), "usec")
	case itimervalOut:
		p.interval(p.fetchOut(v, 32), "usec")
	case itimerspecIn:
		p.interval(p.fetch(v, 32), "nsec")
	case itimerspecOut:
		p.interval(p.fetchOut(v, 32), "nsec")
	case rlimitIn:
		p.rlimit(p.fetch(v, 16))
	case rlimitOut:
		p.rlimit(p.fetchOut(v, 16))
	case sizedSigsetIn:
		if b := p.fetch(v, 16); b != nil {
			p.add("{sigmask=")
			p.sigset(p.fetch(word(b, 0), 8))
			p.add(", sigsetsize=")
			p.unsigned(word(b, 8))
			p.add("}")
		}
	case sigsetIn:
		p.sigset(p.fetch(v, 8))
	case sigsetOut:
		p.sigset(p.fetchOut(v, 8))
	case sigactionIn:
		p.sigaction(p.fetch(v, 32))
	case sigactionOut:
		p.sigaction(p.fetchOut(v, 32))
	case siginfoIn, siginfoOut:
		var b []byte
		if k == siginfoIn {
			b = p.fetch(v, kernel.SiginfoSize)
		} else {
			b = p.fetchOut(v, kernel.SiginfoSize)
		}
		if b != nil {
			info := kernel.DecodeSiginfo(b)
			p.siginfo(&info)
		}
	case stackIn:
		p.stack(p.fetch(v, 24))
	case stackOut:
		p.stack(p.fetchOut(v, 24))
	case sigreturnMask:
		p.add("{mask=")
		p.set(uint64(p.t.Mask()))
		p.add("}")
	case sigeventIn:
		p.sigevent(p.fetch(v, 64))
	case pollFDs:
		p.pollFDs(v, p.values[1])
	case fdSet:
		p.fdSet(v, int(int32(p.values[0])))
	case epollEventIn:
		p.epollEvent(p.fetch(v, 12))
	case epollEventsOut:
		p.epollEvents(v)
	case cpuSetIn:
		p.cpuSet(v, p.values[i-1])
	case cpuSetOut:
		if p.errno != 0 {
			p.pointer(v)
		} else {
			p.cpuSet(v, p.result)
		}
	case schedParamIn:
		p.integer(p.fetch(v, 4))
	case intOut, timerIDOut:
		p.integer(p.fetchOut(v, 4))
	case offsetInOut:
		if b := p.fetch(v, 8); b != nil {
			p.add("[")
			p.signed(int64(word(b, 0)))
			p.add("]")
		}
	case fdPairOut:
		if b := p.fetchOut(v, 8); b != nil {
			p.add("[")
			p.signed(int64(int32(halfword(b, 0))))
			p.add(", ")
			p.signed(int64(int32(halfword(b, 4))))
			p.add("]")
		}
	case groupsOut:
		p.groups(v)
	case direntsOut:
		p.dirents(v)
	case statOut:
		p.stat(p.fetchOut(v, 144))
	case statxOut:
		p.statx(p.fetchOut(v, 256))
	case statfsOut:
		p.statfs(p.fetchOut(v, 120))
	case rusageOut:
		if b := p.fetchOut(v, 32); b != nil {
			p.add("{ru_utime=")
			p.timespec(b[:16], "usec")
			p.add(", ru_stime=")
			p.timespec(b[16:], "usec")
			p.add(", ...}")
		}
	case utsnameOut:
		if b := p.fetchOut(v, 130); b != nil {
			p.add("{sysname=")
			p.quote([]byte(cut(b[:65])), false)
			p.add(", nodename=")
			p.quote([]byte(cut(b[65:])), false)
			p.add(", ...}")
		}
	case sysinfoOut:
		p.sysinfo(p.fetchOut(v, 112))
	case tmsOut:
		if b := p.fetchOut(v, 32); b != nil {
			for j, name := range [...]string{"{tms_utime=", ", tms_stime=", ", tms_cutime=", ", tms_cstime="} {
				p.add(name)
				p.unsigned(word(b, 8*j))
			}
			p.add("}")
		}
	case waitStatus:
		if b := p.fetchOut(v, 4); b != nil && p.result != 0 {
			p.add("[")
			p.waitStatus(halfword(b, 0))
			p.add("]")
		} else if b != nil {
			p.hex(v)
		}
	case capHeader:
		if b := p.fetch(v, 8); b != nil {
			p.add("{version=")
			p.flags(capVersion, uint64(halfword(b, 0)))
			p.add(", pid=")
			p.signed(int64(int32(halfword(b, 4))))
			p.add("}")
		}
	case capDataIn:
		p.capData(p.fetch(v, 24))
	case capDataOut:
		p.capData(p.fetchOut(v, 24))
	case ioctlArg:
		p.ioctlArg(v)
	case archArg:
		if code := p.values[0]; code == archGetFS || code == archGetGS {
			if b := p.fetchOut(v, 8); b != nil {
				p.add("[")
				p.hexZero(word(b, 0))
				p.add("]")
			}
		} else {
			p.hexZero(v)
		}
	default:
		p.hexZero(v)
	}
}

// flags prints v by the names in k's table.
func (p *printer) flags(k kind, v uint64) {
	f := &flagTables[k]
	first := len(p.text)
	part := func(name string) {
		if len(p.text) > first {
			p.add("|")
		}
		p.add(name)
	}
	if f.values != nil {
		mask := f.mask
		if mask == 0 && f.flags == nil {
			mask = ^uint64(0)
		}
		for _, n := range f.values {
			if f.mask == 0 && f.flags != nil {
				if v == n.bits { // the name of none of the flags
					p.add(n.name)
					return
				}
			} else if v&mask == n.bits {
				part(n.name)
				v &^= mask
				break
			}
		}
	} else if v == 0 {
		p.add("0")
		return
	}
	for _, n := range f.flags {
		if n.bits != 0 && v&n.bits == n.bits {
			part(n.name)
			v &^= n.bits
		}
	}
	if len(p.text) == first {
		p.hexZero(v & (1<<32 - 1))
		if f.other != "" {
			p.add(" /* " + f.other + " */")
		}
	} else if v != 0 {
		p.add("|")
		p.hex(v)
	}
}

// quote prints b as a C string; short escapes as strace has them.
func (p *printer) quote(b []byte, hexadecimal bool) {
	p.add(`"`)
	for i, c := range b {
		if hexadecimal {
			p.add(`\x`)
			p.text = append(p.text, "0123456789abcdef"[c>>4], "0123456789abcdef"[c&15])
			continue
		}
		switch c {
		case '"', '\\':
			p.text = append(p.text, '\\', c)
		case '\t':
			p.add(`\t`)
		case '\n':
			p.add(`\n`)
		case '\v':
			p.add(`\v`)
		case '\f':
			p.add(`\f`)
		case '\r':
			p.add(`\r`)
		default:
			if c >= ' ' && c < 0x7f {
				p.text = append(p.text, c)
				continue
			}
			p.add(`\`)
			digits := strconv.FormatUint(uint64(c), 8)
			if i+1 < len(b) && b[i+1] >= '0' && b[i+1] <= '9' {
				digits = strings.Repeat("0", 3-len(digits)) + digits
			}
			p.add(digits)
		}
	}
	p.add(`"`)
}

func cut(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

func (p *printer) cString(addr uint64, limit int) {
	if addr == 0 {
		p.add("NULL")
		return
	}
	s, err := p.t.MM().CopyInString(addr, maxPath)
	if err == unix.ENAMETOOLONG {
		if b := p.fetch(addr, min(limit, maxPath-1)); b != nil {
			p.quote(b, false)
			p.add("...")
		}
		return
	}
	if err != nil {
		p.hex(addr)
		return
	}
	if len(s) > limit {
		p.quote([]byte(s[:limit]), false)
		p.add("...")
		return
	}
	p.quote([]byte(s), false)
}

func (p *printer) data(addr, n uint64, hexadecimal bool) {
	b := p.fetch(addr, int(min(n, maxString)))
	if b == nil {
		return
	}
	p.quote(b, hexadecimal)
	if n > maxString {
		p.add("...")
	}
}

func (p *printer) dataOut(k kind, addr uint64) {
	if p.errno != 0 {
		p.pointer(addr)
		return
	}
	n := p.result
	for i, v := range p.values[:5] {
		if v == addr { // with MSG_TRUNC the result is more than the buffer's size
			n = min(n, p.values[i+1])
			break
		}
	}
	p.data(addr, n, k == dataOutHex)
}

func (p *printer) stringArray(addr uint64) {
	if addr == 0 {
		p.add("NULL")
		return
	}
	p.add("[")
	for i := range uint64(maxElements) {
		v, err := p.t.MM().ReadUint64(addr + 8*i)
		if err != nil {
			p.add("...")
			break
		}
		if v == 0 {
			break
		}
		if i > 0 {
			p.add(", ")
		}
		p.cString(v, maxString)
	}
	p.add("]")
}

func (p *printer) environment(addr uint64) {
	p.pointer(addr)
	if addr == 0 {
		return
	}
	n := 0
	for {
		v, err := p.t.MM().ReadUint64(addr + 8*uint64(n))
		if err != nil || v == 0 || n > 10000 {
			break
		}
		n++
	}
	p.add(" /* ")
	p.signed(int64(n))
	if n == 1 {
		p.add(" var */")
	} else {
		p.add(" vars */")
	}
}

// iovec prints the segments at addr, of which have bytes are filled.
func (p *printer) iovec(addr, count, have uint64) {
	b := p.fetch(addr, int(min(uint64(uint32(count)), maxElements))*16)
	if b == nil {
		return
	}
	p.add("[")
	for i := 0; i < len(b); i += 16 {
		if i > 0 {
			p.add(", ")
		}
		length := word(b, i+8)
		p.add("{iov_base=")
		p.data(word(b, i), min(length, have), false)
		have -= min(have, length)
		p.add(", iov_len=")
		p.unsigned(length)
		p.add("}")
	}
	if uint64(uint32(count)) > maxElements {
		p.add(", ...")
	}
	p.add("]")
}

func (p *printer) signal(n int64) {
	if s := kernel.Signal(n); s.Valid() {
		p.add(signalName(s))
	} else {
		p.signed(n)
	}
}

// signalName is the signal's name as strace has it.
func signalName(s kernel.Signal) string {
	if s < kernel.SIGRTMIN {
		return unix.SignalName(unix.Signal(s))
	}
	if s == kernel.SIGRTMIN {
		return "SIGRTMIN"
	}
	return "SIGRT_" + strconv.Itoa(int(s-kernel.SIGRTMIN))
}

// mode prints permissions with at least three digits, as C's %#03o.
func (p *printer) mode(v uint64) {
	s := "0" + strconv.FormatUint(v&0xffffffff, 8)
	for range max(3-len(s), 0) {
		p.add("0")
	}
	p.add(s)
}

func (p *printer) fileMode(v uint64) {
	if v&unix.S_IFMT != 0 {
		p.flags(fileType, v&unix.S_IFMT)
		p.add("|")
	}
	for _, bit := range [...]flag{{unix.S_ISUID, "S_ISUID|"}, {unix.S_ISGID, "S_ISGID|"}, {unix.S_ISVTX, "S_ISVTX|"}} {
		if v&bit.bits != 0 {
			p.add(bit.name)
		}
	}
	p.mode(v & 0o777)
}

func (p *printer) device(v uint64) {
	p.add("makedev(")
	p.hexZero(uint64(unix.Major(v)))
	p.add(", ")
	p.hexZero(uint64(unix.Minor(v)))
	p.add(")")
}

// timespec prints a struct timespec or timeval; b nil: it has been said why there is none.
func (p *printer) timespec(b []byte, unit string) {
	if b == nil {
		return
	}
	p.add("{tv_sec=")
	p.signed(int64(word(b, 0)))
	p.add(", tv_" + unit + "=")
	p.signed(int64(word(b, 8)))
	p.add("}")
}

func (p *printer) timePair(b []byte, unit string) {
	if b == nil {
		return
	}
	p.add("[")
	for i := 0; i < 32; i += 16 {
		if i > 0 {
			p.add(", ")
		}
		sec, part := int64(word(b, i)), int64(word(b, i+8))
		switch {
		case unit == "nsec" && part == unix.UTIME_NOW:
			p.add("UTIME_NOW")
		case unit == "nsec" && part == unix.UTIME_OMIT:
			p.add("UTIME_OMIT")
		default:
			p.timespec(b[i:i+16], unit)
			if sec != 0 || part != 0 {
				layout := "2006-01-02T15:04:05.000000000-0700"
				if unit == "usec" {
					part *= 1000
					layout = "2006-01-02T15:04:05.000000-0700"
				}
				if part == 0 {
					layout = "2006-01-02T15:04:05-0700"
				}
				p.add(" /* " + time.Unix(sec, part).UTC().Format(layout) + " */")
			}
		}
	}
	p.add("]")
}

func (p *printer) interval(b []byte, unit string) {
	if b == nil {
		return
	}
	p.add("{it_interval=")
	p.timespec(b[:16], unit)
	p.add(", it_value=")
	p.timespec(b[16:], unit)
	p.add("}")
}

func (p *printer) rlimit(b []byte) {
	if b == nil {
		return
	}
	value := func(v uint64) {
		switch {
		case v == kernel.Infinity:
			p.add("RLIM64_INFINITY")
		case v > 1024 && v%1024 == 0:
			p.unsigned(v / 1024)
			p.add("*1024")
		default:
			p.unsigned(v)
		}
	}
	p.add("{rlim_cur=")
	value(word(b, 0))
	p.add(", rlim_max=")
	value(word(b, 8))
	p.add("}")
}

func (p *printer) sigset(b []byte) {
	if b != nil {
		p.set(word(b, 0))
	}
}

// set prints a signal set: those in it, or if they are many ~ and those that are not.
func (p *printer) set(s uint64) {
	n := 0
	for v := s; v != 0; v &= v - 1 {
		n++
	}
	if n >= 64*2/3 {
		p.add("~")
		s = ^s
	}
	p.add("[")
	first := true
	for i := kernel.Signal(1); i <= kernel.SIGRTMAX; i++ {
		if s>>(i-1)&1 == 0 {
			continue
		}
		if !first {
			p.add(" ")
		}
		first = false
		p.add(strings.TrimPrefix(signalName(i), "SIG"))
	}
	p.add("]")
}

func (p *printer) sigaction(b []byte) {
	if b == nil {
		return
	}
	p.add("{sa_handler=")
	switch h := word(b, 0); h {
	case 0:
		p.add("SIG_DFL")
	case 1:
		p.add("SIG_IGN")
	default:
		p.hex(h)
	}
	p.add(", sa_mask=")
	p.set(word(b, 24))
	p.add(", sa_flags=")
	flags := word(b, 8)
	p.flags(sigactionFlags, flags)
	if flags&saRestorer != 0 {
		p.add(", sa_restorer=")
		p.pointer(word(b, 16))
	}
	p.add("}")
}

func (p *printer) siginfo(i *kernel.Siginfo) {
	sig := kernel.Signal(i.Signo)
	p.add("{si_signo=")
	p.signal(int64(i.Signo))
	p.add(", si_code=")
	p.siCode(sig, i.Code)
	if i.Errno != 0 {
		p.add(", si_errno=")
		p.signed(int64(i.Errno))
	}
	value := func() {
		p.add(", si_int=")
		p.signed(int64(int32(i.Value())))
		p.add(", si_ptr=")
		p.pointer(i.Value())
	}
	sender := func() {
		p.add(", si_pid=")
		p.signed(int64(i.PID()))
		p.add(", si_uid=")
		p.unsigned(uint64(i.UID()))
	}
	switch {
	case i.Code == kernel.SITimer:
		p.add(", si_timerid=")
		p.hexZero(uint64(i.TimerID()))
		p.add(", si_overrun=")
		p.signed(int64(i.Overrun()))
		value()
	case i.Code == kernel.SIUser || i.Code == kernel.SITkill:
		sender()
	case i.Code < 0:
		sender()
		value()
	case sig == kernel.Signal(unix.SIGCHLD):
		sender()
		p.add(", si_status=")
		if i.Code == kernel.CLDExited {
			p.signed(int64(i.Status()))
		} else {
			p.signal(int64(i.Status()))
		}
		p.add(", si_utime=0, si_stime=0")
	case sig == kernel.Signal(unix.SIGSEGV) || sig == kernel.Signal(unix.SIGBUS) || sig == kernel.Signal(unix.SIGILL) || sig == kernel.Signal(unix.SIGFPE):
		p.add(", si_addr=")
		p.pointer(i.Addr())
	}
	p.add("}")
}

func (p *printer) siCode(sig kernel.Signal, code int32) {
	type key struct {
		sig  unix.Signal
		code int32
	}
	names := map[key]string{
		{unix.SIGSEGV, 1}: "SEGV_MAPERR", {unix.SIGSEGV, 2}: "SEGV_ACCERR",
		{unix.SIGBUS, 1}: "BUS_ADRALN", {unix.SIGBUS, 2}: "BUS_ADRERR", {unix.SIGBUS, 3}: "BUS_OBJERR",
		{unix.SIGFPE, 1}: "FPE_INTDIV", {unix.SIGFPE, 2}: "FPE_INTOVF", {unix.SIGFPE, 3}: "FPE_FLTDIV", {unix.SIGFPE, 4}: "FPE_FLTOVF",
		{unix.SIGFPE, 5}: "FPE_FLTUND", {unix.SIGFPE, 6}: "FPE_FLTRES", {unix.SIGFPE, 7}: "FPE_FLTINV", {unix.SIGFPE, 8}: "FPE_FLTSUB",
		{unix.SIGILL, 1}: "ILL_ILLOPC", {unix.SIGILL, 2}: "ILL_ILLOPN", {unix.SIGILL, 5}: "ILL_PRVOPC",
		{unix.SIGTRAP, 1}: "TRAP_BRKPT", {unix.SIGTRAP, 2}: "TRAP_TRACE",
		{unix.SIGCHLD, 1}: "CLD_EXITED", {unix.SIGCHLD, 2}: "CLD_KILLED", {unix.SIGCHLD, 3}: "CLD_DUMPED", {unix.SIGCHLD, 4}: "CLD_TRAPPED",
		{unix.SIGCHLD, 5}: "CLD_STOPPED", {unix.SIGCHLD, 6}: "CLD_CONTINUED",
	}
	switch code {
	case kernel.SIUser:
		p.add("SI_USER")
	case kernel.SIKernel:
		p.add("SI_KERNEL")
	case kernel.SIQueue:
		p.add("SI_QUEUE")
	case kernel.SITimer:
		p.add("SI_TIMER")
	case kernel.SIMesgq:
		p.add("SI_MESGQ")
	case kernel.SIAsyncIO:
		p.add("SI_ASYNCIO")
	case kernel.SISigIO:
		p.add("SI_SIGIO")
	case kernel.SITkill:
		p.add("SI_TKILL")
	default:
		if name := names[key{unix.Signal(sig), code}]; name != "" {
			p.add(name)
		} else {
			p.signed(int64(code))
		}
	}
}

func (p *printer) stack(b []byte) {
	if b == nil {
		return
	}
	p.add("{ss_sp=")
	p.pointer(word(b, 0))
	p.add(", ss_flags=")
	p.flags(stackFlags, uint64(halfword(b, 8)))
	p.add(", ss_size=")
	p.unsigned(word(b, 16))
	p.add("}")
}

func (p *printer) sigevent(b []byte) {
	if b == nil {
		return
	}
	p.add("{")
	if v := word(b, 0); v != 0 {
		p.add("sigev_value={sival_int=")
		p.signed(int64(int32(v)))
		p.add(", sival_ptr=")
		p.pointer(v)
		p.add("}, ")
	}
	p.add("sigev_signo=")
	p.signal(int64(int32(halfword(b, 8))))
	p.add(", sigev_notify=")
	notify := uint64(halfword(b, 12))
	p.flags(sigNotify, notify)
	if notify == sigevThreadID {
		p.add(", sigev_notify_thread_id=")
		p.signed(int64(int32(halfword(b, 16))))
	}
	p.add("}")
}

func (p *printer) pollFDs(addr, count uint64) {
	count = uint64(uint32(count))
	b := p.fetch(addr, int(min(count, maxElements))*8)
	if b == nil {
		return
	}
	p.add("[")
	for i := 0; i < len(b); i += 8 {
		if i > 0 {
			p.add(", ")
		}
		p.add("{fd=")
		n := int32(halfword(b, i))
		p.signed(int64(n))
		if n >= 0 {
			p.add(", events=")
			p.flags(pollEvents, uint64(binary.LittleEndian.Uint16(b[i+4:])))
		}
		p.add("}")
	}
	if count > maxElements {
		p.add(", ...")
	}
	p.add("]")
}

func (p *printer) fdSet(addr uint64, n int) {
	n = max(min(n, 4096), 0)
	b := p.fetch(addr, (n+63)/64*8)
	if b == nil {
		return
	}
	p.bits(b, n)
}

func (p *printer) bits(b []byte, n int) {
	p.add("[")
	first := true
	for i := range n {
		if b[i/8]>>(i%8)&1 == 0 {
			continue
		}
		if !first {
			p.add(" ")
		}
		first = false
		p.signed(int64(i))
	}
	p.add("]")
}

func (p *printer) epollEvent(b []byte) {
	if b == nil {
		return
	}
	p.add("{events=")
	p.flags(epollEvents, uint64(halfword(b, 0)))
	p.add(", data={u32=")
	p.unsigned(uint64(halfword(b, 4)))
	p.add(", u64=")
	p.unsigned(word(b, 4))
	p.add("}}")
}

func (p *printer) epollEvents(addr uint64) {
	if p.errno != 0 {
		p.pointer(addr)
		return
	}
	n := int(min(p.result, maxElements))
	b := p.fetch(addr, 12*n)
	if b == nil {
		return
	}
	p.add("[")
	for i := range n {
		if i > 0 {
			p.add(", ")
		}
		p.epollEvent(b[12*i : 12*i+12])
	}
	if p.result > maxElements {
		p.add(", ...")
	}
	p.add("]")
}

func (p *printer) cpuSet(addr, n uint64) {
	if b := p.fetch(addr, int(min(n, 128))); b != nil {
		p.bits(b, 8*len(b))
	}
}

func (p *printer) integer(b []byte) {
	if b == nil {
		return
	}
	p.add("[")
	p.signed(int64(int32(halfword(b, 0))))
	p.add("]")
}

func (p *printer) groups(addr uint64) {
	if p.errno != 0 || p.values[0] == 0 {
		p.pointer(addr)
		return
	}
	n := int(min(p.result, maxElements))
	b := p.fetch(addr, 4*n)
	if b == nil {
		return
	}
	p.add("[")
	for i := range n {
		if i > 0 {
			p.add(", ")
		}
		p.unsigned(uint64(halfword(b, 4*i)))
	}
	p.add("]")
}

func (p *printer) dirents(addr uint64) {
	p.pointer(addr)
	if p.errno != 0 || p.result > 1<<20 {
		return
	}
	b := make([]byte, p.result)
	if n, err := p.t.MM().CopyIn(b, addr); err != nil || n < len(b) {
		return
	}
	entries := 0
	for len(b) >= 18 {
		length := int(binary.LittleEndian.Uint16(b[16:]))
		if length < 18 || length > len(b) {
			break
		}
		entries++
		b = b[length:]
	}
	p.add(" /* ")
	p.signed(int64(entries))
	p.add(" entries */")
}

func (p *printer) stat(b []byte) {
	if b == nil {
		return
	}
	mode := uint64(halfword(b, 24))
	p.add("{st_mode=")
	p.fileMode(mode)
	if typ := mode & unix.S_IFMT; typ == unix.S_IFCHR || typ == unix.S_IFBLK {
		p.add(", st_rdev=")
		p.device(word(b, 40))
	} else {
		p.add(", st_size=")
		p.signed(int64(word(b, 48)))
	}
	p.add(", ...}")
}

func (p *printer) statx(b []byte) {
	if b == nil {
		return
	}
	p.add("{stx_mask=")
	p.flags(statxMask, uint64(halfword(b, 0)))
	p.add(", stx_attributes=")
	p.flags(statxAttributes, word(b, 8))
	p.add(", stx_mode=")
	p.fileMode(uint64(binary.LittleEndian.Uint16(b[28:])))
	p.add(", stx_size=")
	p.unsigned(word(b, 40))
	p.add(", ...}")
}

func (p *printer) statfs(b []byte) {
	if b == nil {
		return
	}
	p.add("{f_type=")
	p.flags(statfsType, word(b, 0))
	for i, name := range [...]string{"bsize", "blocks", "bfree", "bavail", "files", "ffree"} {
		p.add(", f_" + name + "=")
		p.unsigned(word(b, 8+8*i))
	}
	p.add(", f_fsid={val=[")
	p.hexZero(uint64(halfword(b, 56)))
	p.add(", ")
	p.hexZero(uint64(halfword(b, 60)))
	p.add("]}, f_namelen=")
	p.unsigned(word(b, 64))
	p.add(", f_frsize=")
	p.unsigned(word(b, 72))
	p.add(", f_flags=")
	p.flags(statfsFlags, word(b, 80))
	p.add("}")
}

func (p *printer) sysinfo(b []byte) {
	if b == nil {
		return
	}
	p.add("{uptime=")
	p.signed(int64(word(b, 0)))
	p.add(", loads=[")
	for i := range 3 {
		if i > 0 {
			p.add(", ")
		}
		p.unsigned(word(b, 8+8*i))
	}
	p.add("]")
	for i, name := range [...]string{"totalram", "freeram", "sharedram", "bufferram", "totalswap", "freeswap"} {
		p.add(", " + name + "=")
		p.unsigned(word(b, 32+8*i))
	}
	p.add(", procs=")
	p.unsigned(uint64(binary.LittleEndian.Uint16(b[80:])))
	p.add(", totalhigh=")
	p.unsigned(word(b, 88))
	p.add(", freehigh=")
	p.unsigned(word(b, 96))
	p.add(", mem_unit=")
	p.unsigned(uint64(halfword(b, 104)))
	p.add("}")
}

func (p *printer) waitStatus(s uint32) {
	switch {
	case s&0x7f == 0:
		p.add("{WIFEXITED(s) && WEXITSTATUS(s) == ")
		p.signed(int64(s >> 8 & 0xff))
	case s&0xff == 0x7f:
		p.add("{WIFSTOPPED(s) && WSTOPSIG(s) == ")
		p.signal(int64(s >> 8 & 0xff))
	case s == 0xffff:
		p.add("{WIFCONTINUED(s)")
	default:
		p.add("{WIFSIGNALED(s) && WTERMSIG(s) == ")
		p.signal(int64(s & 0x7f))
		if s&0x80 != 0 {
			p.add(" && WCOREDUMP(s)")
		}
	}
	p.add("}")
}

func (p *printer) capData(b []byte) {
	if b == nil {
		return
	}
	for i, name := range [...]string{"{effective=", ", permitted=", ", inheritable="} {
		p.add(name)
		set := uint64(halfword(b, 4*i)) | uint64(halfword(b, 12+4*i))<<32
		first := len(p.text)
		for n, c := range capNames {
			if set>>n&1 != 0 {
				if len(p.text) > first {
					p.add("|")
				}
				p.add("1<<CAP_" + c)
			}
		}
		if len(p.text) == first {
			p.add("0")
		}
	}
	p.add("}")
}

func (p *printer) clone() {
	flags := p.values[0]
	p.add("child_stack=")
	p.pointer(p.values[1])
	p.add(", flags=")
	if flags&^0xff != 0 {
		p.flags(cloneFlags, flags&^0xff)
	}
	if sig := flags & 0xff; sig != 0 {
		if flags&^0xff != 0 {
			p.add("|")
		}
		p.signal(int64(sig))
	} else if flags == 0 {
		p.add("0")
	}
	if flags&(unix.CLONE_PARENT_SETTID|unix.CLONE_PIDFD) != 0 {
		p.add(", parent_tid=")
		p.pointer(p.values[2])
	}
	if flags&unix.CLONE_SETTLS != 0 {
		p.add(", tls=")
		p.hexZero(p.values[4])
	}
	if flags&(unix.CLONE_CHILD_SETTID|unix.CLONE_CHILD_CLEARTID) != 0 {
		p.add(", child_tidptr=")
		p.pointer(p.values[3])
	}
}

func (p *printer) clone3(addr uint64) {
	b := p.fetch(addr, 64)
	if b == nil {
		return
	}
	flags := word(b, 0)
	p.add("{flags=")
	p.flags(cloneFlags, flags)
	if flags&unix.CLONE_PIDFD != 0 {
		p.add(", pidfd=")
		p.pointer(word(b, 8))
	}
	if flags&(unix.CLONE_CHILD_SETTID|unix.CLONE_CHILD_CLEARTID) != 0 {
		p.add(", child_tid=")
		p.pointer(word(b, 16))
	}
	if flags&unix.CLONE_PARENT_SETTID != 0 {
		p.add(", parent_tid=")
		p.pointer(word(b, 24))
	}
	p.add(", exit_signal=")
	p.signal(int64(word(b, 32)))
	p.add(", stack=")
	p.pointer(word(b, 40))
	p.add(", stack_size=")
	p.hexZero(word(b, 48))
	if flags&unix.CLONE_SETTLS != 0 {
		p.add(", tls=")
		p.hexZero(word(b, 56))
	}
	p.add("}")
	if flags&unix.CLONE_PARENT_SETTID != 0 && p.errno == 0 {
		p.add(" => {parent_tid=[")
		p.signed(int64(p.result))
		p.add("]}")
	}
}

func (p *printer) fcntlArg(v uint64) {
	switch p.values[1] {
	case unix.F_GETFD, unix.F_GETFL, unix.F_GETOWN, unix.F_GETSIG, unix.F_GETLEASE, unix.F_GETPIPE_SZ, unix.F_GET_SEALS:
	case unix.F_SETFD:
		if v == unix.FD_CLOEXEC {
			p.add("FD_CLOEXEC")
		} else {
			p.hexZero(v)
		}
	case unix.F_SETFL:
		p.flags(openFlags, v)
	case unix.F_DUPFD, unix.F_DUPFD_CLOEXEC, unix.F_SETOWN, unix.F_SETPIPE_SZ:
		p.signed(int64(int32(v)))
	case unix.F_SETSIG:
		p.signal(int64(int32(v)))
	case unix.F_SETLK, unix.F_SETLKW, unix.F_GETLK, unix.F_OFD_SETLK, unix.F_OFD_SETLKW, unix.F_OFD_GETLK:
		if b := p.fetch(v, 32); b != nil {
			p.add("{l_type=")
			p.flags(lockType, uint64(binary.LittleEndian.Uint16(b)))
			p.add(", l_whence=")
			p.flags(whence, uint64(binary.LittleEndian.Uint16(b[2:])))
			p.add(", l_start=")
			p.signed(int64(word(b, 8)))
			p.add(", l_len=")
			p.signed(int64(word(b, 16)))
			p.add("}")
		}
	default:
		p.hexZero(v)
	}
}

func (p *printer) prctlArg(v uint64) {
	switch p.values[0] {
	case unix.PR_SET_NAME:
		p.cString(v, maxString)
	case unix.PR_GET_DUMPABLE, unix.PR_GET_KEEPCAPS, unix.PR_GET_SECUREBITS, unix.PR_GET_TIMERSLACK, unix.PR_GET_SECCOMP:
	case unix.PR_SET_PDEATHSIG:
		p.signal(int64(v))
	default:
		p.hexZero(v)
	}
}

// futex prints those arguments of futex(2) that the operation has.
func (p *printer) futex(k kind, v uint64) {
	switch op := p.values[1] &^ (futexPrivate | futexClockRealtime); k {
	case futexValue:
		if op != futexUnlockPI && op != futexLockPI && op != futexTrylockPI {
			p.unsigned(uint64(uint32(v)))
		}
	case futexTimeout:
		switch op {
		case futexWait, futexWaitBitset, futexLockPI, futexWaitRequeuePI:
			p.timespec(p.fetch(v, 16), "nsec")
		case futexRequeue, futexCmpRequeue, futexWakeOp, futexCmpRequeuePI:
			p.unsigned(uint64(uint32(v)))
		}
	case futexValue3:
		mask := func() {
			if uint32(v) == 1<<32-1 {
				p.add("FUTEX_BITSET_MATCH_ANY")
			} else {
				p.hexZero(uint64(uint32(v)))
			}
		}
		switch op {
		case futexWaitBitset, futexWakeBitset:
			mask()
		case futexRequeue, futexCmpRequeue, futexCmpRequeuePI, futexWakeOp:
			p.pointer(p.values[4])
			if op == futexWakeOp {
				p.add(", ")
				p.wakeOp(uint32(v))
			} else if op != futexRequeue {
				p.add(", ")
				p.unsigned(uint64(uint32(v)))
			}
		}
	}
}

func (p *printer) wakeOp(v uint32) {
	ops := [...]string{"FUTEX_OP_SET", "FUTEX_OP_ADD", "FUTEX_OP_OR", "FUTEX_OP_ANDN", "FUTEX_OP_XOR"}
	compares := [...]string{"FUTEX_OP_CMP_EQ", "FUTEX_OP_CMP_NE", "FUTEX_OP_CMP_LT", "FUTEX_OP_CMP_LE", "FUTEX_OP_CMP_GT", "FUTEX_OP_CMP_GE"}
	op, compare := int(v>>28&7), int(v>>24&15)
	if v>>31 != 0 {
		p.add("FUTEX_OP_OPARG_SHIFT<<28|")
	}
	if op < len(ops) {
		p.add(ops[op])
	} else {
		p.hex(uint64(op))
	}
	p.add("<<28|")
	p.hexZero(uint64(v >> 12 & 0xfff))
	p.add("<<12|")
	if compare < len(compares) {
		p.add(compares[compare])
	} else {
		p.hex(uint64(compare))
	}
	p.add("<<24|")
	p.hexZero(uint64(v & 0xfff))
}

func (p *printer) ioctlArg(v uint64) {
	switch p.values[1] {
	case unix.TIOCGWINSZ:
		if b := p.fetchOut(v, 8); b != nil {
			p.windowSize(b)
		}
	case unix.TIOCSWINSZ:
		if b := p.fetch(v, 8); b != nil {
			p.windowSize(b)
		}
	case unix.TCGETS:
		p.termios(p.fetchOut(v, 36))
	case unix.TCSETS, unix.TCSETSW, unix.TCSETSF:
		p.termios(p.fetch(v, 36))
	case unix.TIOCGPGRP, unix.TIOCGSID, unix.TIOCINQ, unix.TIOCOUTQ, unix.TIOCGPTN:
		p.integer(p.fetchOut(v, 4))
	case unix.TIOCSPGRP, unix.TIOCSPTLCK, fioNBIO, fioASYNC:
		p.integer(p.fetch(v, 4))
	default:
		p.hexZero(v)
	}
}

func (p *printer) windowSize(b []byte) {
	for i, name := range [...]string{"{ws_row=", ", ws_col=", ", ws_xpixel=", ", ws_ypixel="} {
		p.add(name)
		p.unsigned(uint64(binary.LittleEndian.Uint16(b[2*i:])))
	}
	p.add("}")
}

// The delays of c_oflag, which strace names even when they are 0.
const outputDelayBits = unix.NLDLY | unix.CRDLY | unix.TABDLY | unix.BSDLY | unix.VTDLY | unix.FFDLY

func outputDelays(v uint64) string {
	var parts []string
	for _, d := range []struct {
		mask uint64
		name string
	}{{unix.NLDLY, "NL"}, {unix.CRDLY, "CR"}, {unix.TABDLY, "TAB"}, {unix.BSDLY, "BS"}, {unix.VTDLY, "VT"}, {unix.FFDLY, "FF"}} {
		parts = append(parts, d.name+strconv.Itoa(int(v&d.mask>>bits.TrailingZeros64(d.mask))))
	}
	return strings.Join(parts, "|")
}

func (p *printer) termios(b []byte) {
	if b == nil {
		return
	}
	for i, field := range [...]struct {
		name string
		k    kind
	}{{"{c_iflag=", inputModes}, {", c_oflag=", outputModes}, {", c_cflag=", controlModes}, {", c_lflag=", localModes}} {
		p.add(field.name)
		v := uint64(halfword(b, 4*i))
		if field.k == outputModes {
			p.add(outputDelays(v))
			v &^= outputDelayBits
			if v == 0 {
				continue
			}
			p.add("|")
		}
		p.flags(field.k, v)
	}
	p.add(", ...}")
}

// errnoText are the kernel's own errors, which programs never see.
var errnoText = map[unix.Errno]string{
	kernel.ERESTARTSYS:           "ERESTARTSYS (To be restarted if SA_RESTART is set)",
	kernel.ERESTARTNOINTR:        "ERESTARTNOINTR (To be restarted)",
	kernel.ERESTARTNOHAND:        "ERESTARTNOHAND (To be restarted if no handler)",
	kernel.ERESTART_RESTARTBLOCK: "ERESTART_RESTARTBLOCK (Interrupted by signal)",
}

// printResult prints what stands behind the equals sign. r is nil for a number without a row.
func (p *printer) printResult(r *row) {
	if p.errno != 0 {
		if text := errnoText[p.errno]; text != "" {
			p.add("? " + text)
			return
		}
		p.add("-1 ")
		name := unix.ErrnoName(p.errno)
		if p.errno == unix.EOPNOTSUPP { // ENOTSUP is the same number
			name = "EOPNOTSUPP"
		}
		if name == "" {
			p.signed(int64(p.errno))
			return
		}
		text := p.errno.Error()
		p.add(name + " (" + strings.ToUpper(text[:1]) + text[1:] + ")")
		return
	}
	k := none
	if r != nil {
		k = r.result
	}
	switch k {
	case hex:
		p.hexZero(p.result)
	case octal:
		p.mode(p.result)
	case pollResult:
		p.pollResult()
	case selectResult:
		p.selectResult()
	case fcntlResult:
		switch p.values[1] {
		case unix.F_GETFL:
			p.hexZero(p.result)
			p.add(" (flags ")
			p.flags(openFlags, p.result)
			p.add(")")
		case unix.F_GETFD:
			p.hexZero(p.result)
			if p.result&unix.FD_CLOEXEC != 0 {
				p.add(" (flags FD_CLOEXEC)")
			}
		default:
			p.signed(int64(p.result))
		}
	case signalResult:
		p.signed(int64(p.result))
		p.add(" (")
		p.signal(int64(p.result))
		p.add(")")
	case schedPolicy:
		p.signed(int64(p.result))
		p.add(" (")
		p.flags(schedPolicy, p.result)
		p.add(")")
	default:
		p.signed(int64(p.result))
	}
}

func (p *printer) pollResult() {
	p.signed(int64(p.result))
	if p.result == 0 {
		p.add(" (Timeout)")
		return
	}
	count := min(uint64(uint32(p.values[1])), 4096)
	b := make([]byte, 8*count)
	if n, err := p.t.MM().CopyIn(b, p.values[0]); err != nil || n < len(b) {
		return
	}
	p.add(" ([")
	shown := 0
	for i := 0; i < len(b); i += 8 {
		events := binary.LittleEndian.Uint16(b[i+6:])
		if events == 0 {
			continue
		}
		if shown > 0 {
			p.add(", ")
		}
		if shown == maxElements {
			p.add("...")
			break
		}
		shown++
		p.add("{fd=")
		p.signed(int64(int32(halfword(b, i))))
		p.add(", revents=")
		p.flags(pollEvents, uint64(events))
		p.add("}")
	}
	p.add("]")
	if p.isCall(unix.SYS_PPOLL) && p.values[2] != 0 {
		p.add(", left ")
		p.timespec(p.fetch(p.values[2], 16), "nsec")
	}
	p.add(")")
}

func (p *printer) isCall(number uint64) bool { return p.t.Ctx.OrigRAX == number }

func (p *printer) selectResult() {
	p.signed(int64(p.result))
	if p.result == 0 {
		p.add(" (Timeout)")
		return
	}
	p.add(" (")
	first := len(p.text)
	n := max(min(int(int32(p.values[0])), 4096), 0)
	for i, name := range [...]string{"in ", "out ", "exc "} {
		addr := p.values[1+i]
		b := make([]byte, (n+63)/64*8)
		if addr == 0 {
			continue
		}
		if got, err := p.t.MM().CopyIn(b, addr); err != nil || got < len(b) {
			continue
		}
		set := false
		for _, c := range b {
			set = set || c != 0
		}
		if !set {
			continue
		}
		if len(p.text) > first {
			p.add(", ")
		}
		p.add(name)
		p.bits(b, n)
	}
	if p.values[4] != 0 {
		if len(p.text) > first {
			p.add(", ")
		}
		p.add("left ")
		unit := "usec"
		if p.isCall(unix.SYS_PSELECT6) {
			unit = "nsec"
		}
		p.timespec(p.fetch(p.values[4], 16), unit)
	}
	p.add(")")
}
