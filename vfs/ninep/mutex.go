package ninep

import (
	"slices"
	"sync"

	"elver/kernel"
)

// mutex is a lock that is held while a server is asked: waiting for it ends for a thread that is killed.
type mutex struct {
	mu      sync.Mutex // guards what follows
	held    bool
	waiters []*kernel.Completion // the first one gets the lock next
}

// Lock takes the lock: EINTR for a thread that is killed meanwhile. firm: not for that either.
func (m *mutex) Lock(firm bool) error {
	m.mu.Lock()
	if !m.held {
		m.held = true
		m.mu.Unlock()
		return nil
	}
	turn := new(kernel.Completion)
	m.waiters = append(m.waiters, turn)
	m.mu.Unlock()
	err := turn.Wait(firm)
	if err == nil {
		return nil
	}
	m.mu.Lock()
	at := slices.Index(m.waiters, turn)
	if at >= 0 {
		m.waiters = slices.Delete(m.waiters, at, at+1)
	}
	m.mu.Unlock()
	if at < 0 {
		m.Unlock() // it was this one's turn
	}
	return err
}

// TryLock takes the lock if it is free.
func (m *mutex) TryLock() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	was := m.held
	m.held = true
	return !was
}

// Unlock hands the lock on.
func (m *mutex) Unlock() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.waiters) == 0 {
		m.held = false
		return
	}
	m.waiters[0].Complete()
	m.waiters = slices.Delete(m.waiters, 0, 1)
}
