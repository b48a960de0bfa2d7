package kvm

// The two 8259A interrupt controllers of the PC (Intel 8259A data sheet, order 231468).
const (
	pic1Command, pic1Data = 0x20, 0x21
	pic2Command, pic2Data = 0xa0, 0xa1

	// picVector is where their sixteen lines are put. They are masked, but a line that drops at the
	// wrong moment still gives a spurious interrupt 7 or 15, which must not look like an exception.
	picVector = 0x20
)

// maskPICs moves both controllers out of the way of the exceptions and masks every line; the I/O
// APICs deliver all interrupts from then on. Without the controllers the writes go nowhere.
func maskPICs(io ports) {
	const (
		icw1  = 0x11 // edge triggered, cascade, ICW4 follows
		icw4  = 0x01 // 8086 mode
		slave = 2    // the input of the first controller where the second hangs
	)
	io.Out8(pic1Command, icw1)
	io.Out8(pic2Command, icw1)
	io.Out8(pic1Data, picVector)
	io.Out8(pic2Data, picVector+8)
	io.Out8(pic1Data, 1<<slave)
	io.Out8(pic2Data, slave)
	io.Out8(pic1Data, icw4)
	io.Out8(pic2Data, icw4)
	io.Out8(pic1Data, 0xff)
	io.Out8(pic2Data, 0xff)
}
