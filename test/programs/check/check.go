// Package check is what check.h is to the C programs: a program is a list of
// tests; it prints "ok NAME" for each that passes and "FAIL NAME: ..." for each
// that doesn't, and exits with 1 if one failed. Arguments choose tests by name.
package check

import (
	"fmt"
	"os"
	"slices"
)

// A Test returns what is wrong, or nil.
type Test struct {
	Name string
	Run  func() error
}

// Main runs the tests and ends the program.
func Main(tests ...Test) {
	status := 0
	for _, t := range tests {
		if len(os.Args) > 1 && !slices.Contains(os.Args[1:], t.Name) {
			continue
		}
		if err := t.Run(); err != nil {
			fmt.Printf("FAIL %s: %v\n", t.Name, err)
			status = 1
			continue
		}
		fmt.Println("ok", t.Name)
	}
	os.Exit(status)
}
