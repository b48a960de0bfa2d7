// Report reads what "make test TESTFLAGS=-json" prints and tells it again for
// whom reads the log of a CI machine: a line for each test that passed, and for
// each that failed its name, its time and all that it said, together and where
// it happened. Lines that no test printed pass as they are.
//
// The last line is "N passed, N failed"; the status is 1 if any failed.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

// An event is a line of go test -json: see go doc test2json.
type event struct {
	Action     string
	Package    string
	ImportPath string // of build-output
	Test       string
	Elapsed    float64 // seconds
	Output     string
}

// A name is a test in its package, or the package itself if test is empty.
type name struct{ pkg, test string }

type report struct {
	out                     io.Writer
	said                    map[name]*strings.Builder // of what runs
	passed, failed, skipped int
	failures                []string
	broken                  map[string]bool // packages in which a test failed
	stopped                 bool            // make said that something failed
}

// outcome is a line that a command other than go test prints of itself.
var outcome = regexp.MustCompile(`^--- (PASS|FAIL): (.+)$`)

// frame matches the lines in which go test -v says what the events say.
var frame = regexp.MustCompile(`^(=== (RUN|PAUSE|CONT|NAME) |\s*--- (PASS|FAIL|SKIP): |(PASS|FAIL)\n$)`)

func main() {
	r := newReport(os.Stdout)
	if err := r.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
	r.end()
	if r.failed > 0 {
		os.Exit(1)
	}
}

func newReport(out io.Writer) *report {
	return &report{out: out, said: map[name]*strings.Builder{}, broken: map[string]bool{}}
}

func (r *report) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			r.line(line)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *report) line(line string) {
	var e event
	if !strings.HasPrefix(line, "{") || json.Unmarshal([]byte(line), &e) != nil || e.Action == "" {
		fmt.Fprint(r.out, line)
		r.stopped = r.stopped || strings.HasPrefix(line, "make: *** ")
		if m := outcome.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			r.count(m[1] == "PASS", m[2])
		}
		return
	}
	n := name{e.Package, e.Test}
	switch e.Action {
	case "run":
		r.said[n] = &strings.Builder{}
	case "output", "build-output":
		r.output(n, e)
	case "pass":
		r.pass(n, e)
	case "skip":
		r.skip(n, e)
	case "fail":
		r.fail(n, e)
	}
}

func (r *report) output(n name, e event) {
	if e.Action == "build-output" {
		fmt.Fprint(r.out, e.Output)
		return
	}
	if frame.MatchString(e.Output) {
		return
	}
	b := r.said[n]
	if b == nil { // a package's first words, or a test's last ones
		b = &strings.Builder{}
		r.said[n] = b
	}
	b.WriteString(e.Output)
}

func (r *report) take(n name) string {
	b := r.said[n]
	delete(r.said, n)
	if b == nil {
		return ""
	}
	return b.String()
}

func (r *report) pass(n name, e event) {
	said := r.take(n)
	if n.test == "" {
		fmt.Fprint(r.out, lastLine(said))
		return
	}
	fmt.Fprintf(r.out, "--- PASS: %s (%.2fs)\n", n.test, e.Elapsed)
	r.passed++
}

// skip tells a test that was left out with its reason. Only Rust may be what a
// machine hasn't: everything else is installed before the tests run, and a test
// that skips for want of it is a hole.
func (r *report) skip(n name, e event) {
	said := r.take(n)
	if n.test == "" {
		fmt.Fprint(r.out, lastLine(said))
		return
	}
	if strings.Contains(said, ": there is no ") && !strings.Contains(said, "rustc") {
		fmt.Fprintf(r.out, "--- FAIL: %s (skipped for want of a tool)\n%s", n.test, said)
		r.count(false, n.test)
		r.broken[n.pkg] = true
		return
	}
	fmt.Fprintf(r.out, "--- SKIP: %s (%.2fs)\n%s", n.test, e.Elapsed, said)
	r.skipped++
}

func (r *report) fail(n name, e event) {
	if n.test != "" {
		fmt.Fprintf(r.out, "--- FAIL: %s (%.2fs)\n%s", n.test, e.Elapsed, r.take(n))
		r.count(false, n.test)
		r.broken[n.pkg] = true
		return
	}
	// Of tests that a panic or a timeout cut off there is no other event.
	for other := range r.said {
		if other.pkg == n.pkg && other.test != "" {
			fmt.Fprintf(r.out, "--- FAIL: %s (not finished)\n%s", other.test, r.take(other))
			r.count(false, other.test)
			r.broken[n.pkg] = true
		}
	}
	fmt.Fprintf(r.out, "%sFAIL %s\n", r.take(n), n.pkg)
	if !r.broken[n.pkg] {
		r.count(false, n.pkg)
	}
}

func (r *report) count(passed bool, what string) {
	if passed {
		r.passed++
		return
	}
	r.failed++
	r.failures = append(r.failures, what)
}

func (r *report) end() {
	if r.stopped && r.failed == 0 {
		r.count(false, "make")
	}
	for _, f := range r.failures {
		fmt.Fprintln(r.out, "failed:", f)
	}
	if r.skipped > 0 {
		fmt.Fprintf(r.out, "%d skipped, see above\n", r.skipped)
	}
	fmt.Fprintf(r.out, "%d passed, %d failed\n", r.passed, r.failed)
}

// lastLine returns the last line of s, which is where go test says how a
// package ended.
func lastLine(s string) string {
	s = strings.TrimRight(s, "\n")
	return s[strings.LastIndexByte(s, '\n')+1:] + "\n"
}
