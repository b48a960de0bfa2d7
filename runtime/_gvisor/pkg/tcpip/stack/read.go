package stack

import (
	"fmt"
	"io"
)

// take is ReadTo for who takes the bytes away: nobody else does, so they can be read where they are.
func (d PacketData) take(dst io.Writer) (int, error) {
	var err error
	done := 0
	offset := d.pk.dataOffset()
	d.pk.buf.ApplyBytes(offset, int(d.pk.buf.Size())-offset, func(p []byte) {
		if err != nil {
			return
		}
		var n int
		n, err = dst.Write(p)
		done += n
		if err == nil && n != len(p) {
			panic(fmt.Sprintf("a writer took %d bytes of %d and gave no error", n, len(p)))
		}
	})
	d.pk.buf.TrimFront(int64(done))
	return done, err
}
