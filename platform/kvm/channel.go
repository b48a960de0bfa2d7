package kvm

// The ports of the two one-way channels to the scripts on the host, each an isa-debugcon of QEMU.
const (
	logPort    = 0x4e9
	statusPort = 0x5e9
)

// debugconPresent is what a debugcon answers to a read (hw/char/debugcon.c: its "readback"
// property); an empty port reads 0xff.
const debugconPresent = 0xe9

// channel is a debugcon: every byte written to the port goes to the host at once. It needs no
// set-up and no lock, so it works at any time, in the middle of a kernel failure too.
type channel struct {
	io   ports
	port uint16
}

// probeChannel returns the channel at port, or nil if the machine has none.
func probeChannel(io ports, port uint16) *channel {
	if io.In8(port) != debugconPresent {
		return nil
	}
	return &channel{io, port}
}

// Write sends p and cannot fail.
func (c *channel) Write(p []byte) (int, error) {
	for _, b := range p {
		c.io.Out8(c.port, b)
	}
	return len(p), nil
}
