package buffer

import "io"

// fill reads n bytes into the room of a view that has it, or as many as there are.
func (v *View) fill(r io.Reader, n int64) (int64, error) {
	p := v.chunk.data[v.write:][:n]
	done := 0
	for done < len(p) {
		k, err := r.Read(p[done:])
		done += k
		v.write += k
		if err == io.EOF {
			break
		}
		if err == nil && k == 0 {
			err = io.ErrNoProgress
		}
		if err != nil {
			return int64(done), err
		}
	}
	return int64(done), nil
}

// Fill has an empty view read n bytes, or as many as there are, and adds it to b.
func (b *Buffer) Fill(v *View, r io.Reader, n int) (int, error) {
	done, err := v.fill(r, int64(n))
	b.appendOwned(v)
	return int(done), err
}

// ApplyBytes is SubApply without views of its own: nobody else may take bytes from b meanwhile.
func (b *Buffer) ApplyBytes(offset, length int, fn func([]byte)) {
	for v := b.data.Front(); length > 0 && v != nil; v = v.Next() {
		p := v.AsSlice()
		if offset >= len(p) {
			offset -= len(p)
			continue
		}
		p = p[offset:]
		offset = 0
		p = p[:min(len(p), length)]
		fn(p)
		length -= len(p)
	}
}

// AppendSlices appends the bytes of b from offset on, where they are: they stay b's.
func (b *Buffer) AppendSlices(to [][]byte, offset int) [][]byte {
	for v := b.data.Front(); v != nil; v = v.Next() {
		p := v.AsSlice()
		if offset >= len(p) {
			offset -= len(p)
			continue
		}
		to = append(to, p[offset:])
		offset = 0
	}
	return to
}
