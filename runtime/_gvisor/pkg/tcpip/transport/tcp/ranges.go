package tcp

import (
	"github.com/google/btree"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// freeRanges are nodes that scoreboards gave back, for all of them: most connections never need one.
var freeRanges = btree.NewFreeListG[header.SACKBlock](btree.DefaultFreeListSize)

func newRanges() *btree.BTreeG[header.SACKBlock] {
	return btree.NewWithFreeListG(defaultBtreeDegree, sackBlockLess, freeRanges)
}
