package virtionet

import "unsafe"

// inBlock returns where in physical memory p is, and whether that is in the blocks.
func (l *Link) inBlock(p []byte) (pa uint64, ok bool) {
	at := uintptr(unsafe.Pointer(unsafe.SliceData(p))) - uintptr(unsafe.Pointer(unsafe.SliceData(l.blocks)))
	return l.blocksAt + uint64(at), at < uintptr(len(l.blocks)) && uintptr(len(p)) <= uintptr(len(l.blocks))-at
}
