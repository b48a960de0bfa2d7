package syscall

import (
	"slices"
	"strings"
	"testing"
)

func TestTableIsComplete(t *testing.T) {
	want := map[uint16]string{}
	for _, run := range linuxCalls {
		for i, name := range strings.Fields(run.names) {
			want[run.first+uint16(i)] = name
		}
	}
	for i := range rows {
		r := &rows[i]
		if i > 0 && r.number <= rows[i-1].number {
			t.Errorf("%s: number %d does not rise", r.name, r.number)
		}
		if want[r.number] != r.name {
			t.Errorf("number %d is %q, want %q", r.number, r.name, want[r.number])
		}
		delete(want, r.number)
		for j, k := range r.args {
			if k == none && slices.ContainsFunc(r.args[j:], func(k kind) bool { return k != none }) {
				t.Errorf("%s: an argument behind the last", r.name)
			}
		}
	}
	for n, name := range want {
		t.Errorf("number %d, %s, has no row", n, name)
	}
}

func TestFlagTablesAreComplete(t *testing.T) {
	for k := flagKinds + 1; k < lastFlags; k++ {
		if f := &flagTables[k]; f.values == nil && f.flags == nil {
			t.Errorf("kind %d has no table", k)
		}
	}
}

func TestNames(t *testing.T) {
	if n := Name(39); n != "getpid" {
		t.Errorf("Name(39) = %q", n)
	}
	if n := Name(1000); n != "syscall_0x3e8" {
		t.Errorf("Name(1000) = %q", n)
	}
	if n := Name(400); n != "syscall_0x190" {
		t.Errorf("Name(400) = %q", n)
	}
}
