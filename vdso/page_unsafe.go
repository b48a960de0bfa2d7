package vdso

import (
	"sync/atomic"
	"unsafe"
)

// The data page is read by programs while it is written: stores are atomic, so that they are neither
// torn nor moved across each other.

func begin(page []byte) { storeUint32(page, dataSeq, atomic.LoadUint32(word32(page, dataSeq))+1) }

func end(page []byte) { storeUint32(page, dataSeq, atomic.LoadUint32(word32(page, dataSeq))+1) }

func storeUint32(page []byte, offset int, v uint32) { atomic.StoreUint32(word32(page, offset), v) }

func storeUint64(page []byte, offset int, v uint64) {
	atomic.StoreUint64((*uint64)(unsafe.Pointer(&page[offset : offset+8][0])), v)
}

func word32(page []byte, offset int) *uint32 {
	return (*uint32)(unsafe.Pointer(&page[offset : offset+4][0]))
}
