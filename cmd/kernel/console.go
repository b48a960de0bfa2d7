//go:build elver

package main

import (
	"sync"

	"golang.org/x/sys/unix"

	"elver/boot"
	"elver/kernel"
	"elver/kernel/klog"
	"elver/platform/kvm"
	"elver/vfs/tty"
)

// console is the machine's first serial port as the program sees it.
type console struct {
	tty.Console
	serial *kvm.Serial

	mu    sync.Mutex     // guards what follows
	first *kernel.Thread // the program's; nil until there is one
	early kernel.Signal  // was typed before there was one; 0: none
}

// newConsole starts the console.
func newConsole(machine *kvm.Machine, k *kernel.Kernel, params *boot.Params) *console {
	c := &console{serial: machine.Console()}
	output := func(p []byte) {
		if c.serial != nil {
			c.serial.Write(p)
		}
	}
	if params.Console == boot.ConsolePipe {
		c.Console = tty.NewStream(output)
	} else {
		t := tty.New(output, func(group int32, sig kernel.Signal) { c.signal(k, group, sig) })
		t.SetSize(unix.Winsize{Row: params.Rows, Col: params.Columns})
		c.Console = t
	}
	if c.serial == nil {
		return c
	}
	if err := machine.Listen(c.Input, nil); err != nil {
		klog.Warnf("the console has no input: %v", err)
		return c
	}
	go func() {
		for range c.Room() {
			c.serial.Resume()
		}
	}()
	return c
}

// signal sends a signal that was typed to the group in the foreground. One that comes before the program is
// kept for it: who types Ctrl-C while the machine boots wants it to end.
func (c *console) signal(k *kernel.Kernel, group int32, sig kernel.Signal) {
	if g := k.ProcessGroup(group); g != nil {
		g.Kill(sig, kernel.KernelInfo(sig))
		return
	}
	c.mu.Lock()
	first := c.first
	if first == nil && sig != kernel.Signal(unix.SIGWINCH) {
		c.early = sig
	}
	c.mu.Unlock()
	if first != nil {
		first.Proc.Kill(sig, kernel.KernelInfo(sig))
	}
}

// adopt makes t's session, the first one, that of the terminal.
func (c *console) adopt(t *kernel.Thread) {
	c.mu.Lock()
	c.first = t
	early := c.early
	c.mu.Unlock()
	if terminal, ok := c.Console.(*tty.Terminal); ok {
		group := t.Proc.Group()
		terminal.SetSession(group.Session(), group.ID())
	}
	if early != 0 {
		t.Proc.Kill(early, kernel.KernelInfo(early))
	}
}
