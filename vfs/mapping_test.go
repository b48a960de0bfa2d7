package vfs_test

import (
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"elver/kernel/mm"
	"elver/vfs"
)

// TestMapping has a file mapped, read and written at once: all see the same bytes, and a copy between the
// file and its own mapping comes to an end.
func TestMapping(t *testing.T) {
	c := newContext(t)
	as, err := mm.New(nil)
	ok(t, "address space", err)
	defer as.Release()
	as.Activate()
	write(t, c, "/f", strings.Repeat("a", 4*4096))
	d, err := c.OpenFile(vfs.AtCWD, "/f", unix.O_RDWR, 0)
	ok(t, "open", err)
	m, err := d.Mappable(c)
	ok(t, "Mappable", err)
	addr, err := as.Mmap(mm.MmapArgs{Length: 4 * 4096, Prot: unix.PROT_READ | unix.PROT_WRITE, Flags: unix.MAP_SHARED, File: m})
	ok(t, "mmap", err)
	d.Decref()
	ok(t, "unlink", c.Unlink(vfs.AtCWD, "/f"))

	d, err = c.OpenFile(vfs.AtCWD, "/g", unix.O_RDWR|unix.O_CREAT, 0o644)
	ok(t, "open", err)
	// The mapping alone keeps the unlinked file; write from it into another file and back.
	b := mm.UserBuffer1(as, addr, 4*4096)
	if n, err := d.Write(c, &b); n != 4*4096 || err != nil {
		t.Errorf("write from the mapping: %d, %v", n, err)
	}
	m, err = d.Mappable(c)
	ok(t, "Mappable", err)
	own, err := as.Mmap(mm.MmapArgs{Length: 6 * 4096, Prot: unix.PROT_READ | unix.PROT_WRITE, Flags: unix.MAP_SHARED, File: m})
	ok(t, "mmap", err)
	// The file into its own pages, none of them present yet, and the other way round.
	b = mm.UserBuffer1(as, own, 4*4096)
	if n, err := d.Pread(c, &b, 0); n != 4*4096 || err != nil {
		t.Errorf("read into its own mapping: %d, %v", n, err)
	}
	b = mm.UserBuffer1(as, own+100, 3*4096)
	if n, err := d.Pwrite(c, &b, 4*4096); n != 3*4096 || err != nil {
		t.Errorf("write from its own mapping: %d, %v", n, err)
	}
	b = mm.KernelBuffer([]byte("coherent"))
	d.Pwrite(c, &b, 4096)
	p := make([]byte, 8)
	if _, err := as.CopyIn(p, own+4096); err != nil || string(p) != "coherent" {
		t.Errorf("the mapping shows %q, %v", p, err)
	}
	if _, err := as.CopyOut(own+2*4096, []byte("through")); err != nil {
		t.Error(err)
	}
	b = mm.KernelBuffer(p[:7])
	if _, err := d.Pread(c, &b, 2*4096); err != nil || string(p[:7]) != "through" {
		t.Errorf("the file holds %q, %v", p[:7], err)
	}
	// Pages behind the end are gone from the mapping.
	ok(t, "truncate", d.Truncate(c, 4096))
	if n, err := as.CopyIn(p, own+4096); n != 0 || err == nil {
		t.Errorf("read behind the end: %d, %v", n, err)
	}
	if n, err := as.CopyIn(p, own); n != 8 || err != nil {
		t.Errorf("read before the end: %d, %v", n, err)
	}
	d.Decref()
	ok(t, "munmap", as.Munmap(addr, 4*4096))
	ok(t, "munmap", as.Munmap(own, 6*4096))
	ok(t, "unlink", c.Unlink(vfs.AtCWD, "/g"))
}

// TestPipeStress has writers of different sizes and one reader: what is no more than PIPE_BUF comes in
// one piece, and nobody waits for ever.
func TestPipeStress(t *testing.T) {
	c := newContext(t)
	r, w := pipe(t, c, 0)
	const writers, rounds = 4, 500
	var wg sync.WaitGroup
	for i := range writers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			e, ch := waiter.NewChannelEntry(waiter.WritableEvents)
			w.EventRegister(&e)
			defer w.EventUnregister(&e)
			message := []byte(strings.Repeat(string(rune('a'+i)), 500*i+99) + "\n")
			for range rounds {
				for {
					b := mm.KernelBuffer(message)
					n, err := w.Write(c, &b)
					if n == len(message) {
						break
					}
					if err != unix.EAGAIN {
						t.Errorf("write: %d, %v", n, err)
						return
					}
					<-ch
				}
			}
		}()
	}
	go func() { wg.Wait(); w.Decref() }()
	e, ch := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp)
	r.EventRegister(&e)
	var all []byte
	p := make([]byte, 10000)
	for {
		b := mm.KernelBuffer(p)
		n, err := r.Read(c, &b)
		if err == unix.EAGAIN {
			<-ch
			continue
		}
		ok(t, "read", err)
		if n == 0 {
			break
		}
		all = append(all, p[:n]...)
	}
	r.EventUnregister(&e)
	r.Decref()
	lines := strings.Split(strings.TrimSuffix(string(all), "\n"), "\n")
	if len(lines) != writers*rounds {
		t.Errorf("%d lines, want %d", len(lines), writers*rounds)
	}
	for _, l := range lines {
		if i := int(l[0] - 'a'); len(l) != 500*i+99 || strings.Trim(l, l[:1]) != "" {
			t.Fatal("writes were mixed")
		}
	}
}

// TestTreeStress has creations, renames, lookups and removals at once.
func TestTreeStress(t *testing.T) {
	c := newContext(t)
	at := int32(vfs.AtCWD)
	for _, d := range []string{"/a", "/b", "/a/c"} {
		ok(t, "mkdir", c.Mkdir(at, d, 0o755))
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			own := string(rune('p' + i))
			for range 300 {
				c.Mkdir(at, "/a/"+own, 0o755)
				if d, err := c.OpenFile(at, "/a/"+own+"/f", unix.O_CREAT|unix.O_RDWR, 0o600); err == nil {
					b := mm.KernelBuffer([]byte("x"))
					d.Write(c, &b)
					c.Files.Name(d.Path())
					d.Decref()
				}
				c.Rename(at, "/a/"+own, at, "/b/"+own, 0)
				c.Rename(at, "/b/"+own, at, "/a/c/"+own, unix.RENAME_NOREPLACE)
				c.Rename(at, "/a/c", at, "/b/c", 0)
				c.Rename(at, "/b/c", at, "/a/c", 0)
				var a vfs.Attr
				c.Stat(at, "/a/c/"+own+"/f", 0, &a)
				c.Stat(at, "/a/c/"+own+"/../..", 0, &a)
				for _, d := range []string{"/a/", "/b/", "/a/c/", "/b/c/"} {
					c.Unlink(at, d+own+"/f")
					c.Rmdir(at, d+own)
				}
			}
		}()
	}
	wg.Wait()
	for _, d := range []string{"/a", "/b", "/a/c", "/b/c"} {
		for i := range 4 {
			own := d + "/" + string(rune('p'+i))
			c.Unlink(at, own+"/f")
			c.Rmdir(at, own)
		}
	}
	c.Rename(at, "/b/c", at, "/a/c", 0)
	if got := names(t, c, "/a") + names(t, c, "/b") + names(t, c, "/a/c"); got != ". .. c. ... .." {
		t.Errorf("left: %q", got)
	}
}
