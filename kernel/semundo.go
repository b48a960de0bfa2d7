package kernel

import "sync/atomic"

// SemaphoreUndo is what threads that were made with CLONE_SYSVSEM share: the System V semaphores that
// change back when the last of them ends (semop(2), SEM_UNDO).
type SemaphoreUndo struct {
	refs atomic.Int32
	// List is package sysv's, guarded by its lock; nil: there is nothing to undo.
	List interface{ Exit(t *Thread) }
}

// SemaphoreUndo returns what t shares with others or, made by the first call, has alone. The thread
// itself calls it.
func (t *Thread) SemaphoreUndo() *SemaphoreUndo {
	if t.semaphoreUndo == nil {
		t.semaphoreUndo = &SemaphoreUndo{}
		t.semaphoreUndo.refs.Store(1)
	}
	return t.semaphoreUndo
}

// LeaveSemaphoreUndo gives up t's share, and undoes what there is to undo if nobody else has one: at t's end
// and by unshare(CLONE_SYSVSEM).
func (t *Thread) LeaveSemaphoreUndo() {
	if u := t.semaphoreUndo; u != nil {
		t.semaphoreUndo = nil
		if u.refs.Add(-1) == 0 && u.List != nil {
			u.List.Exit(t)
		}
	}
}

// SharesSemaphoreUndo reports whether t and o undo the same, if any (kcmp(2)).
func (t *Thread) SharesSemaphoreUndo(o *Thread) bool { return t.semaphoreUndo == o.semaphoreUndo }
