package main

import (
	"strings"
	"testing"
)

// told returns what a report says of these lines.
func told(t *testing.T, lines ...string) (string, *report) {
	t.Helper()
	var out strings.Builder
	r := newReport(&out)
	if err := r.read(strings.NewReader(strings.Join(lines, "\n"))); err != nil {
		t.Fatal(err)
	}
	r.end()
	return out.String(), r
}

func TestReport(t *testing.T) {
	for name, row := range map[string]struct {
		lines []string
		want  string
	}{
		"nothing": {nil, "0 passed, 0 failed\n"},
		"others' lines": {
			[]string{"go run x", "--- PASS: go vet", "{not an event}"},
			"go run x\n--- PASS: go vet\n{not an event}1 passed, 0 failed\n",
		},
		"pass": {
			[]string{`{"Action":"run","Package":"p","Test":"TestA"}`, `{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}`,
				`{"Action":"output","Package":"p","Test":"TestA","Output":"chatter\n"}`, `{"Action":"pass","Package":"p","Test":"TestA","Elapsed":0.5}`,
				`{"Action":"output","Package":"p","Output":"PASS\n"}`, `{"Action":"output","Package":"p","Output":"ok  \tp\t1.0s\n"}`, `{"Action":"pass","Package":"p","Elapsed":1}`},
			"--- PASS: TestA (0.50s)\nok  \tp\t1.0s\n1 passed, 0 failed\n",
		},
		"failures say why in one place": {
			[]string{`{"Action":"run","Package":"p","Test":"TestA"}`, `{"Action":"run","Package":"p","Test":"TestA/b"}`, `{"Action":"run","Package":"p","Test":"TestA/c"}`,
				`{"Action":"output","Package":"p","Test":"TestA/b","Output":"    a_test.go:1: why\n"}`, `{"Action":"output","Package":"p","Test":"TestA/c","Output":"other\n"}`,
				`{"Action":"pass","Package":"p","Test":"TestA/c"}`, `{"Action":"fail","Package":"p","Test":"TestA/b"}`, `{"Action":"fail","Package":"p","Test":"TestA"}`,
				`{"Action":"output","Package":"p","Output":"FAIL\n"}`, `{"Action":"fail","Package":"p"}`},
			"--- PASS: TestA/c (0.00s)\n--- FAIL: TestA/b (0.00s)\n    a_test.go:1: why\n--- FAIL: TestA (0.00s)\nFAIL p\nfailed: TestA/b\nfailed: TestA\n1 passed, 2 failed\n",
		},
		"skips": {
			[]string{`{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:1: there is no rustc here\n"}`, `{"Action":"skip","Package":"p","Test":"TestA"}`,
				`{"Action":"output","Package":"p","Test":"TestB","Output":"    a_test.go:1: there is no gcc here\n"}`, `{"Action":"skip","Package":"p","Test":"TestB"}`},
			"--- SKIP: TestA (0.00s)\n    a_test.go:1: there is no rustc here\n--- FAIL: TestB (skipped for want of a tool)\n    a_test.go:1: there is no gcc here\n" +
				"failed: TestB\n1 skipped, see above\n0 passed, 1 failed\n",
		},
		"a package that doesn't build": {
			[]string{`{"ImportPath":"p","Action":"build-output","Output":"./x.go:1: undefined\n"}`, `{"ImportPath":"p","Action":"build-fail"}`,
				`{"Action":"output","Package":"p","Output":"FAIL\tp [build failed]\n"}`, `{"Action":"fail","Package":"p","FailedBuild":"p"}`},
			"./x.go:1: undefined\nFAIL\tp [build failed]\nFAIL p\nfailed: p\n0 passed, 1 failed\n",
		},
		"make alone": {
			[]string{"make: *** [Makefile:83: unit] Error 1"}, "make: *** [Makefile:83: unit] Error 1failed: make\n0 passed, 1 failed\n",
		},
		"a panic": {
			[]string{`{"Action":"run","Package":"p","Test":"TestA"}`, `{"Action":"output","Package":"p","Test":"TestA","Output":"panic: test timed out\n"}`, `{"Action":"fail","Package":"p"}`},
			"--- FAIL: TestA (not finished)\npanic: test timed out\nFAIL p\nfailed: TestA\n0 passed, 1 failed\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got, _ := told(t, row.lines...); got != row.want {
				t.Errorf("got\n%s\nwanted\n%s", got, row.want)
			}
		})
	}
}
