package vfs_test

import (
	"math/rand"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"elver/vfs"
)

// TestRecordLocksModel compares record locks with what a byte-wise model says.
func TestRecordLocksModel(t *testing.T) {
	const size, owners = 40, 3
	c := newContext(t)
	write(t, c, "/f", "")
	var files [owners]*vfs.Description
	for i := range files {
		d, err := c.OpenFile(vfs.AtCWD, "/f", unix.O_RDWR, 0)
		ok(t, "open", err)
		defer d.Decref()
		files[i] = d
	}
	var model [owners][size]vfs.LockType
	for i := range model {
		for j := range model[i] {
			model[i][j] = vfs.Unlock
		}
	}
	r := rand.New(rand.NewSource(1))
	for step := range 20000 {
		owner, start := r.Intn(owners), r.Intn(size)
		end := start + r.Intn(size-start)
		kind := []vfs.LockType{vfs.LockRead, vfs.LockWrite, vfs.Unlock, vfs.Unlock}[r.Intn(4)]
		free := true
		for o := range model {
			for b := start; b <= end && o != owner && kind != vfs.Unlock; b++ {
				if m := model[o][b]; m == vfs.LockWrite || m == vfs.LockRead && kind == vfs.LockWrite {
					free = false
				}
			}
		}
		area := vfs.LockRange{Start: int64(start), End: int64(end)}
		if kind != vfs.Unlock {
			if _, found := files[owner].GetLock(c, true, kind, area); found == free {
				t.Fatalf("step %d: GetLock says %v, the model %v", step, found, !free)
			}
		}
		err := files[owner].SetLock(c, true, kind, area, false)
		if free != (err == nil) {
			t.Fatalf("step %d: SetLock says %v, the model %v", step, err, free)
		}
		if err == nil {
			for b := start; b <= end; b++ {
				model[owner][b] = kind
			}
		}
	}
}

// TestLocksUnderRace lets goroutines with tables of their own contend for locks of all kinds.
func TestLocksUnderRace(t *testing.T) {
	c := newContext(t)
	write(t, c, "/f", "")
	var wg sync.WaitGroup
	held := 0
	for n := range 6 {
		mine := *c
		mine.Files = c.Files.Clone(false, true)
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer mine.Files.Exit()
			for range 200 {
				fd, err := mine.Open(vfs.AtCWD, "/f", unix.O_RDWR, 0)
				if err != nil {
					t.Error(err)
					return
				}
				d, _ := mine.Get(int32(fd))
				switch n % 3 {
				case 0:
					err = d.SetLock(&mine, false, vfs.LockWrite, vfs.WholeFile, true)
				case 1:
					err = d.SetLock(&mine, true, vfs.LockWrite, vfs.WholeFile, true)
				default:
					err = d.SetLock(&mine, true, vfs.LockWrite, vfs.LockRange{Start: 5, End: 9}, true)
				}
				if err != nil {
					t.Error(err)
				}
				held++ // the race detector sees whether it is alone
				d.Decref()
				mine.Close(int32(fd))
			}
		}()
	}
	wg.Wait()
	if held != 6*200 {
		t.Errorf("%d", held)
	}
}
