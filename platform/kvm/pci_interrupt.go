package kvm

import "fmt"

// Interrupt is what a driver waits for: a line of an I/O APIC or a message. One goroutine serves it,
// as Line shows.
type Interrupt interface {
	Wait()
	Done()
}

// MSI-X (PCI Local Bus 3.0, 6.8.2).
const (
	pciCapMSIX = 0x11

	msixControl    = 2 // in the capability
	msixTable      = 4
	msixTableSize  = 0x7ff
	msixMaskAll    = 1 << 14
	msixOn         = 1 << 15
	msixEntryBytes = 16
	msixEntryMask  = 1 << 0 // of an entry's last word

	// messageAddress is where a message to a local APIC is written; bits 19 to 12 are its id (Intel SDM
	// vol. 3, 12.11.1).
	messageAddress = 0xfee00000
)

// message is a message-signalled interrupt: an edge, of which nothing has to be masked.
type message struct {
	cpu    processor
	vector uint8
}

// Wait parks the goroutine until a message came since the last call.
func (m message) Wait() { m.cpu.WaitIRQ(m.vector) }

// Done does nothing.
func (message) Done() {}

// message takes a vector for a message, and returns what the device has to write where.
func (ic *interrupts) message() (m message, address uint64, data uint32, err error) {
	ic.mu.Lock()
	defer ic.mu.Unlock()
	if ic.next > lastLineVector {
		return message{}, 0, 0, fmt.Errorf("platform: no vector is left for a message-signalled interrupt")
	}
	m = message{ic.cpu, uint8(ic.next)}
	ic.next++
	return m, messageAddress | uint64(ic.destination)<<12, uint32(m.vector), nil
}

// Interrupts gives the function n interrupts at best: messages, when byMessage is true and interrupt i
// is entry i of its MSI-X table, else the one line that it may share with others.
func (f *PCIFunction) Interrupts(n int) (list []Interrupt, byMessage bool, err error) {
	for _, c := range f.Capabilities() {
		if c.ID == pciCapMSIX {
			if list, err = f.messages(c.At, n); err == nil {
				return list, true, nil
			}
			break
		}
	}
	line, lineErr := f.line()
	if lineErr != nil {
		if err == nil {
			err = lineErr
		}
		return nil, false, err
	}
	return []Interrupt{line}, false, nil
}

func (f *PCIFunction) messages(at uint8, n int) ([]Interrupt, error) {
	control := f.Config16(at + msixControl)
	entries := int(control&msixTableSize) + 1
	table := f.Config32(at + msixTable)
	pa, err := f.Window(int(table&7), uint64(table&^7), uint64(entries)*msixEntryBytes)
	if err != nil {
		return nil, err
	}
	f.Enable()
	// On, and masked as a whole until the table is filled: the line is off from here on.
	f.SetConfig16(at+msixControl, control|msixOn|msixMaskAll)
	var list []Interrupt
	for i := range min(n, entries) {
		m, address, data, err := f.m.ic.message()
		if err != nil {
			if i == 0 {
				f.SetConfig16(at+msixControl, control&^(msixOn|msixMaskAll))
				return nil, err
			}
			break
		}
		entry := pa + uint64(i)*msixEntryBytes
		hw := f.m.hw
		hw.Store32(entry, uint32(address))
		hw.Store32(entry+4, uint32(address>>32))
		hw.Store32(entry+8, data)
		hw.Store32(entry+12, hw.Load32(entry+12)&^msixEntryMask)
		list = append(list, m)
	}
	f.SetConfig16(at+msixControl, control&^msixMaskAll|msixOn)
	return list, nil
}

// line returns the function's interrupt line, as the firmware routed it.
func (f *PCIFunction) line() (Interrupt, error) {
	pin, irq := f.Config8(pciInterruptPin), f.Config8(pciInterruptLine)
	if pin == 0 || irq == 0 || irq >= 16 {
		return nil, fmt.Errorf("%v: the firmware routed no interrupt to it", f)
	}
	p := f.pci
	p.intxMu.Lock()
	defer p.intxMu.Unlock()
	shared := p.intx[irq]
	if shared == nil {
		line, err := f.m.ic.routePCI(irq)
		if err != nil {
			return nil, err
		}
		shared = &sharedLine{line: line, added: make(chan *sharer)}
		p.intx[irq] = shared
		go shared.serve()
	}
	f.SetConfig16(pciCommand, f.Config16(pciCommand)&^pciCommandNoINTx)
	s := &sharer{wake: make(chan struct{}), served: make(chan struct{})}
	shared.added <- s
	return s, nil
}

// routePCI returns the line of an ISA interrupt that a PCI device uses: level triggered and active
// low, unless the MADT overrides it.
func (ic *interrupts) routePCI(irq uint8) (*Line, error) {
	for _, o := range ic.overrides {
		if o.irq == irq {
			return ic.route(o.gsi, o.sciTrigger())
		}
	}
	return ic.route(uint32(irq), trigger{level: true, low: true})
}

// sharedLine is a line that several functions pull.
type sharedLine struct {
	line  Interrupt
	added chan *sharer
}

// sharer is one function's part of a line.
type sharer struct{ wake, served chan struct{} }

// Wait parks the goroutine until the line's interrupt comes, whoever caused it.
func (s *sharer) Wait() { <-s.wake }

// Done says that the function was served.
func (s *sharer) Done() { s.served <- struct{}{} }

// serve wakes all functions at each interrupt, and lets the line go when all have been served.
func (l *sharedLine) serve() {
	interrupts := make(chan struct{})
	go func() {
		for {
			l.line.Wait()
			interrupts <- struct{}{}
			<-interrupts
			l.line.Done()
		}
	}()
	var all []*sharer
	for {
		select {
		case s := <-l.added:
			all = append(all, s)
		case <-interrupts:
			for _, s := range all {
				s.wake <- struct{}{}
			}
			for _, s := range all {
				<-s.served
			}
			interrupts <- struct{}{}
		}
	}
}
