package inet

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// /proc/net/fib_trie shows the routes of IPv4 as a trie with levels compressed: a node looks at several bits of an
// address at once when at least half of the places that this makes are taken (Nilsson and Karlsson, "IP-address lookup
// using LC-tries").

// fibRoute is a route to what begins as its leaf does.
type fibRoute struct {
	prefix      int
	scope, kind string
}

type fibLeaf struct {
	key    uint32
	routes []fibRoute // the longest prefix first
}

// fibNode is an inner node: its prefix ends before the bits that choose among children, or a leaf.
type fibNode struct {
	leaf *fibLeaf // nil: the node is an inner one

	key          uint32
	prefix, bits int
	children     []*fibNode // nil where none is
}

// Names of RT_SCOPE_* and RTN_* in the file.
var (
	fibScopes = map[uint8]string{unix.RT_SCOPE_UNIVERSE: "universe", unix.RT_SCOPE_SITE: "site", unix.RT_SCOPE_LINK: "link",
		unix.RT_SCOPE_HOST: "host", unix.RT_SCOPE_NOWHERE: "nowhere"}
	fibKinds = map[uint8]string{unix.RTN_UNICAST: "UNICAST", unix.RTN_LOCAL: "LOCAL", unix.RTN_BROADCAST: "BROADCAST",
		unix.RTN_BLACKHOLE: "BLACKHOLE", unix.RTN_UNREACHABLE: "UNREACHABLE", unix.RTN_PROHIBIT: "PROHIBIT", unix.RTN_THROW: "THROW"}
)

// fibLeaves returns where routes lead to, and the machine's own addresses.
func (n *Network) fibLeaves() []*fibLeaf {
	leaves := map[uint32]*fibLeaf{}
	for _, r := range n.Routes() {
		if r.Family() != unix.AF_INET || !r.used() {
			continue
		}
		to := r.Destination.ID().As4()
		key := binary.BigEndian.Uint32(to[:])
		l := leaves[key]
		if l == nil {
			l = &fibLeaf{key: key}
			leaves[key] = l
		}
		scope, known := fibScopes[r.Scope]
		if !known {
			scope = fmt.Sprintf("scope=%d", r.Scope)
		}
		if f := (fibRoute{r.Destination.Prefix(), scope, fibKinds[r.Kind]}); !slices.Contains(l.routes, f) {
			l.routes = append(l.routes, f)
		}
	}
	var list []*fibLeaf
	for _, l := range leaves {
		slices.SortStableFunc(l.routes, func(a, b fibRoute) int { return b.prefix - a.prefix })
		list = append(list, l)
	}
	slices.SortFunc(list, func(a, b *fibLeaf) int {
		if a.key < b.key {
			return -1
		}
		return 1
	})
	return list
}

// fibTrie makes a trie of leaves, which are in the order of their keys: nil of none.
func fibTrie(leaves []*fibLeaf) *fibNode {
	if len(leaves) == 0 {
		return nil
	}
	first, last := leaves[0].key, leaves[len(leaves)-1].key
	if first == last {
		return &fibNode{leaf: leaves[0]}
	}
	n := &fibNode{prefix: bits.LeadingZeros32(first ^ last), bits: 1}
	n.key = first &^ (1<<(32-n.prefix) - 1)
	place := func(key uint32, bits int) int { return int(key >> (32 - n.prefix - bits) & (1<<bits - 1)) }
	for more := n.bits + 1; n.prefix+more <= 32; more++ {
		taken := 1
		for i := range leaves[1:] {
			if place(leaves[i].key, more) != place(leaves[i+1].key, more) {
				taken++
			}
		}
		if 2*taken < 1<<more {
			break
		}
		n.bits = more
	}
	n.children = make([]*fibNode, 1<<n.bits)
	for len(leaves) > 0 {
		at, end := place(leaves[0].key, n.bits), 1
		for end < len(leaves) && place(leaves[end].key, n.bits) == at {
			end++
		}
		n.children[at] = fibTrie(leaves[:end])
		leaves = leaves[end:]
	}
	return n
}

// full says whether c, a child of n, looks at the bits right behind those that n looks at.
func (n *fibNode) full(c *fibNode) bool {
	return c != nil && c.leaf == nil && c.prefix == n.prefix+n.bits
}

func dotted(key uint32) string {
	return fmt.Sprintf("%d.%d.%d.%d", key>>24, key>>16&255, key>>8&255, key&255)
}

func (n *fibNode) write(b *strings.Builder, depth int) {
	indent := strings.Repeat("   ", depth)
	if l := n.leaf; l != nil {
		fmt.Fprintf(b, "%s  |-- %s\n", indent, dotted(l.key))
		for _, r := range l.routes {
			fmt.Fprintf(b, "%s     /%d %s %s\n", indent, r.prefix, r.scope, r.kind)
		}
		return
	}
	full, empty := 0, 0
	for _, c := range n.children {
		if c == nil {
			empty++
		} else if n.full(c) {
			full++
		}
	}
	fmt.Fprintf(b, "%s  +-- %s/%d %d %d %d\n", indent, dotted(n.key), n.prefix, n.bits, full, empty)
	for _, c := range n.children {
		if c != nil {
			c.write(b, depth+1)
		}
	}
}

// procFibTrie is /proc/net/fib_trie. The tables local and main are one there, as on Linux while no rule was added.
func (n *Network) procFibTrie() string {
	var b strings.Builder
	if t := fibTrie(n.fibLeaves()); t != nil {
		t.write(&b, 0)
	}
	return "Main:\n" + b.String() + "Local:\n" + b.String()
}

// fibStat adds up what is in a trie.
type fibStat struct {
	leaves, prefixes, depths, deepest, pointers, empty int
	inner                                              [33]int // by bits
}

func (s *fibStat) add(n *fibNode, depth int) {
	if n.leaf != nil {
		s.leaves++
		s.prefixes += len(n.leaf.routes)
		s.depths += depth
		s.deepest = max(s.deepest, depth)
		return
	}
	s.inner[n.bits]++
	s.pointers += len(n.children)
	for _, c := range n.children {
		if c == nil {
			s.empty++
		} else {
			s.add(c, depth+1)
		}
	}
}

// procFibTrieStat is /proc/net/fib_triestat.
func (n *Network) procFibTrieStat() string {
	const sizeofLeaf, sizeofNode, sizeofRoute, sizeofPointer = 48, 40, 56, 8 // Linux's
	var s fibStat
	if t := fibTrie(n.fibLeaves()); t != nil {
		s.add(t, 0)
	}
	average := 0
	if s.leaves > 0 {
		average = s.depths * 100 / s.leaves
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\tAver depth:     %d.%02d\n\tMax depth:      %d\n\tLeaves:         %d\n\tPrefixes:       %d\n", average/100, average%100, s.deepest, s.leaves, s.prefixes)
	nodes := 0
	for _, c := range s.inner {
		nodes += c
	}
	fmt.Fprintf(&b, "\tInternal nodes: %d\n\t", nodes)
	for bits, c := range s.inner {
		if c != 0 {
			fmt.Fprintf(&b, "  %d: %d", bits, c)
		}
	}
	size := s.leaves*sizeofLeaf + nodes*sizeofNode + s.prefixes*sizeofRoute + s.pointers*sizeofPointer
	fmt.Fprintf(&b, "\n\tPointers: %d\nNull ptrs: %d\nTotal size: %d  kB\n", s.pointers, s.empty, (size+1023)/1024)
	return fmt.Sprintf("Basic info: size of leaf: %d bytes, size of tnode: %d bytes.\nMain:\n%sLocal:\n%s", sizeofLeaf, sizeofNode, b.String(), b.String())
}
