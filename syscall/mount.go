package syscall

import (
	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/vfs"
)

// mount(2)
func sysMount(t *kernel.Thread, a *args) (uint64, error) {
	const magic, magicMask = 0xc0ed0000, 0xffff0000 // of programs older than Linux 2.4
	flags := a.arg(3)
	if flags&magicMask == magic {
		flags &^= magicMask
	}
	texts := [4]string{}
	for i, addr := range [...]uint64{a.arg(2), a.arg(0), a.arg(4), a.arg(1)} { // type, source, options, target
		if addr == 0 && i < 3 {
			continue
		}
		s, err := t.MM().CopyInString(addr, unix.PathMax)
		if err != nil {
			return 0, err
		}
		texts[i] = s
	}
	return 0, filesOf(t).Mount(texts[1], texts[3], texts[0], flags, texts[2])
}

// umount2(2)
func sysUmount2(t *kernel.Thread, a *args) (uint64, error) {
	path, err := pathAt(t, a.arg(0))
	if err != nil {
		return 0, err
	}
	return 0, filesOf(t).Unmount(path, int(a.int(1)))
}

// pivot_root(2)
func sysPivotRoot(t *kernel.Thread, a *args) (uint64, error) {
	newRoot, err := pathAt(t, a.arg(0))
	if err != nil {
		return 0, err
	}
	putOld, err := pathAt(t, a.arg(1))
	if err != nil {
		return 0, err
	}
	from, to, err := filesOf(t).PivotRoot(newRoot, putOld)
	if err != nil {
		return 0, err
	}
	for _, p := range t.Kernel().Processes() {
		if files, ok := p.Attach.(*vfs.Files); ok {
			files.Repoint(from, to)
		}
	}
	filesOf(t).Files.Repoint(from, to)
	return 0, nil
}
