package syscall

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

const document = "../docs/syscalls.md"

// documentation is docs/syscalls.md: the table for people.
func documentation() string {
	var there, missing int
	var b, absent strings.Builder
	for i := range rows {
		r := &rows[i]
		if r.handler == nil {
			missing++
			fmt.Fprintf(&absent, "%s (%d)\n", r.name, r.number)
			continue
		}
		there++
		note := r.note
		if note == "" {
			note = "yes"
		}
		fmt.Fprintf(&b, "| %d | %s | %s |\n", r.number, r.name, strings.ReplaceAll(note, "|", `\|`))
	}
	return fmt.Sprintf(`# System calls

Written from the table of the kernel (`+"`syscall/table.go`"+`) by
`+"`UPDATE=1 go test ./syscall -run TestDocument`"+`; a test fails when it is stale. %d of the %d calls
that Linux has or had on x86-64 are served.

| number | call | served |
| ---: | --- | --- |
%s
## Not there

These answer ENOSYS, as on a Linux that was built without them, and `+"`elver.summary=1`"+` names those that
a program tried. Some of them no Linux serves any more.

%s`, there, there+missing, b.String(), wrapped(absent.String()))
}

// wrapped joins lines by commas, in lines of at most 96 bytes.
func wrapped(lines string) string {
	var b strings.Builder
	column := 0
	names := strings.Split(strings.TrimSuffix(lines, "\n"), "\n")
	for i, name := range names {
		end := ","
		if i == len(names)-1 {
			end = "."
		}
		if column > 0 && column+1+len(name)+len(end) > 96 {
			b.WriteByte('\n')
			column = 0
		} else if column > 0 {
			b.WriteByte(' ')
			column++
		}
		b.WriteString(name + end)
		column += len(name) + len(end)
	}
	b.WriteByte('\n')
	return b.String()
}

func TestDocument(t *testing.T) {
	want := documentation()
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(document, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(document)
	if err != nil || string(got) != want {
		t.Errorf("docs/syscalls.md is stale (%v): run UPDATE=1 go test ./syscall -run TestDocument", err)
	}
}
