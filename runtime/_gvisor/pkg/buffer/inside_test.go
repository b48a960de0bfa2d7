package buffer

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

func TestWriteFromReader(t *testing.T) {
	data := make([]byte, 3*MaxChunkSize+17)
	for i := range data {
		data[i] = byte(i * 7)
	}
	for name, x := range map[string]struct {
		from  io.Reader
		count int64
		want  int64
		err   bool
	}{
		"all":               {bytes.NewReader(data), int64(len(data)), int64(len(data)), false},
		"a part":            {bytes.NewReader(data), 100, 100, false},
		"in bytes":          {iotest.OneByteReader(bytes.NewReader(data[:3000])), 3000, 3000, false},
		"end with data":     {iotest.DataErrReader(bytes.NewReader(data[:3000])), 3000, 3000, false},
		"failure in middle": {io.MultiReader(bytes.NewReader(data[:1000]), iotest.ErrReader(errors.New("fault"))), 3000, 1000, true},
	} {
		var b Buffer
		n, err := b.WriteFromReader(x.from, x.count)
		if n != x.want || (err != nil) != x.err || !bytes.Equal(b.Flatten(), data[:x.want]) {
			t.Errorf("%s: %d bytes, %v; the buffer has %d", name, n, err, b.Size())
		}
		b.Release()
	}
}

func TestApplyBytes(t *testing.T) {
	var b Buffer
	defer b.Release()
	var data []byte
	for i := range 5 {
		piece := bytes.Repeat([]byte{byte(i)}, 100)
		data = append(data, piece...)
		b.appendOwned(NewViewWithData(piece))
	}
	for _, x := range [][2]int{{0, 500}, {0, 1}, {99, 2}, {100, 100}, {250, 250}, {499, 1}, {0, 0}, {500, 0}} {
		var got []byte
		b.ApplyBytes(x[0], x[1], func(p []byte) { got = append(got, p...) })
		if want := data[x[0]:][:x[1]]; !bytes.Equal(got, want) {
			t.Errorf("%d bytes at %d: %d", x[1], x[0], len(got))
		}
	}
}

func TestLend(t *testing.T) {
	memory := []byte("0123456789")
	came := 0
	lend := Lend(memory, func() { came++ })
	for round := range 3 {
		v := lend(2, 6)
		clone := v.Clone()
		b := MakeWithView(v)
		if got := b.Flatten(); string(got) != "2345" {
			t.Fatalf("round %d: the view has %q", round, got)
		}
		// What is written goes elsewhere: the memory behind is another's, and so is what a clone sees.
		clone.Write([]byte("x"))
		if got := clone.AsSlice(); string(got) != "2345x" || string(memory) != "0123456789" {
			t.Errorf("round %d: the clone has %q, the memory %q", round, got, memory)
		}
		clone.Release()
		if came != round {
			t.Errorf("round %d: the memory came back while a view has it", round)
		}
		b.Release()
		if came != round+1 {
			t.Errorf("round %d: the memory came back %d times", round, came)
		}
	}
}
