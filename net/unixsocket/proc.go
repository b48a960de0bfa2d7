package unixsocket

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"elver/net"
)

// Proc is /proc/net/unix (proc_pid_net(5)).
func Proc() string {
	const accepting = 0x10000 // __SO_ACCEPTCON
	var b strings.Builder
	b.WriteString("Num       RefCount Protocol Flags    Type St Inode Path\n")
	for _, e := range net.Open(unix.AF_UNIX) {
		s, ok := e.Socket.(*Socket)
		if !ok {
			continue
		}
		flags, state := 0, 1 // SS_UNCONNECTED
		switch s.state.Load() {
		case stateListening:
			flags = accepting
		case stateConnected:
			state = 3 // SS_CONNECTED
		}
		fmt.Fprintf(&b, "%016x: %08X %08X %08X %04X %02X %5d", 0, 2, 0, flags, s.typ(), state, e.Inode)
		if a := s.address.Load(); a != nil && len(a.raw) > 2 {
			name := a.raw[2:]
			if a.file != nil {
				name = name[:len(name)-1]
			}
			b.WriteByte(' ')
			for i, c := range name {
				if c == 0 && (a.file == nil || i == 0) {
					c = '@'
				}
				b.WriteByte(c)
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}
