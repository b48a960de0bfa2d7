//go:build elver

package main

import (
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
	first  *kernel.Thread // the program's; nil until there is one
}

// newConsole starts the console.
func newConsole(machine *kvm.Machine, k *kernel.Kernel, kind boot.Console) *console {
	c := &console{serial: machine.Console()}
	output := func(p []byte) {
		if c.serial != nil {
			c.serial.Write(p)
		}
	}
	if kind == boot.ConsolePipe {
		c.Console = tty.NewStream(output)
	} else {
		c.Console = tty.New(output, func(group int32, sig kernel.Signal) { c.signal(k, group, sig) })
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

// signal sends a signal that was typed to the group in the foreground.
func (c *console) signal(k *kernel.Kernel, group int32, sig kernel.Signal) {
	if g := k.ProcessGroup(group); g != nil {
		g.Kill(sig, kernel.KernelInfo(sig))
	} else if c.first != nil {
		c.first.Proc.Kill(sig, kernel.KernelInfo(sig))
	}
}

// adopt makes t's session, the first one, that of the terminal.
func (c *console) adopt(t *kernel.Thread) {
	c.first = t
	if terminal, ok := c.Console.(*tty.Terminal); ok {
		group := t.Proc.Group()
		terminal.SetSession(group.Session(), group.ID())
	}
}
