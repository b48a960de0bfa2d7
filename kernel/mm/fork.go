package mm

import (
	"golang.org/x/sys/unix"

	"elver/arch/amd64"
	"elver/runtime/metal"
)

// Fork returns a copy of as for a child process: private pages are shared until one side writes,
// shared memory stays shared. Memory locks aren't inherited. With limits nil the child has as's. ENOMEM.
func (as *AddressSpace) Fork(limits Limits) (*AddressSpace, error) {
	child, err := as.fork(limits)
	for tries := 0; err == unix.ENOMEM && tries < 3 && Reclaim(reclaimBatch) > 0; tries++ {
		child, err = as.fork(limits)
	}
	return child, err
}

func (as *AddressSpace) fork(limits Limits) (*AddressSpace, error) {
	child, err := New(limits)
	if err != nil {
		return nil, err
	}
	as.lock()
	child.lock()
	if limits == nil {
		child.limits = as.limits
	}
	if err = as.copyTo(child); err == nil && as.program != nil {
		as.program.Acquire()
		child.program = as.program
	}
	child.unlock()
	as.unlock() // the TLB forgets that as could write
	if err != nil {
		child.Release()
		return nil, err
	}
	return child, nil
}

// copyTo copies VMAs and entries to child. Both are locked; nobody else has child yet.
func (as *AddressSpace) copyTo(child *AddressSpace) error {
	child.noLarge = as.noLarge
	child.large.Store(as.large.Load())
	child.mmapBase, child.brkStart, child.brk, child.stackTop = as.mmapBase, as.brkStart, as.brk, as.stackTop
	for _, c := range as.vmas.chunks {
		for _, v := range c.vmas[:c.n] {
			if v.flags&vmDontCopy != 0 {
				continue
			}
			if !roomForObjects(child.vmas.count) {
				return unix.ENOMEM
			}
			if v.flags&vmAccount != 0 {
				if !enough(v.pages()) {
					return unix.ENOMEM
				}
				committed.Add(int64(v.pages()))
			}
			twin := *v
			twin.flags &^= vmLocked | vmLockFault
			if v.back != nil {
				if _, ok := v.back.file.(PerProcess); ok {
					twin.back = newBacking(v.back.file)
				} else {
					v.back.refs.Add(1)
				}
			}
			child.add(&twin)
			if v.flags&(vmWipeOnFork|vmMayShare) != 0 {
				continue // shared memory is found again by faults
			}
			if err := as.copyPages(child, v); err != nil {
				return err
			}
		}
	}
	child.notePeak()
	return nil
}

// copyPages shares the pages of v, which is private, with child, read-only on both sides.
func (as *AddressSpace) copyPages(child *AddressSpace, v *vma) error {
	for va := v.start; va < v.end; {
		slot, base := as.table.Walk(va, v.end)
		if slot == nil {
			break
		}
		va = max(va, base)
		if *slot&amd64.EntryLarge != 0 && v.holdsLarge(base) {
			if err := as.copyLarge(child, slot, base); err != nil {
				return err
			}
			va += LargeSize
			metal.CondResched()
			continue
		}
		table := as.table.Leaf(slot, base)
		for stop := min(v.end, base+amd64.LeafSpan); va < stop; va += PageSize {
			entry := &table[amd64.Index(va)]
			old := *entry
			if old&entryAnon == 0 {
				continue // nothing, or a page of the file
			}
			twin := child.table.Entry(va)
			if twin == nil {
				return unix.ENOMEM
			}
			if old&amd64.EntryWritable != 0 {
				old &^= writable
				*entry = old
				as.table.Changed(va)
			}
			*twin = old
			if pa := old.Frame(); pa != zeroFrame {
				metal.Ref(pa)
				child.resident[residentAnon]++
			}
		}
		metal.CondResched()
	}
	return nil
}
