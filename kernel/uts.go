package kernel

import "sync"

// Names of the machine (uname(2)).

// MaxHostname is __NEW_UTS_LEN, in bytes.
const MaxHostname = 64

// uts are the names that can be changed.
type uts struct {
	mu           sync.Mutex
	host, domain string // guarded by mu
}

// Hostname returns the machine's name and that of its NIS domain.
func (k *Kernel) Hostname() (host, domain string) {
	k.uts.mu.Lock()
	defer k.uts.mu.Unlock()
	return k.uts.host, k.uts.domain
}

// SetHostname names the machine; the name is cut to MaxHostname bytes.
func (k *Kernel) SetHostname(name string) {
	k.uts.mu.Lock()
	defer k.uts.mu.Unlock()
	k.uts.host = name[:min(len(name), MaxHostname)]
}

// SetDomainname names the NIS domain.
func (k *Kernel) SetDomainname(name string) {
	k.uts.mu.Lock()
	defer k.uts.mu.Unlock()
	k.uts.domain = name[:min(len(name), MaxHostname)]
}
