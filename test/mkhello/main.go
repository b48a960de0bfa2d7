// Mkhello writes a static program that prints "Hello world!", for a machine
// that has no C compiler: mkhello FILE.
package main

import (
	"fmt"
	"os"

	"elver/test/tinyelf"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: mkhello FILE")
		os.Exit(2)
	}
	if err := os.WriteFile(os.Args[1], tinyelf.Hello("Hello world!\n", 0), 0o755); err != nil {
		fmt.Fprintln(os.Stderr, "mkhello:", err)
		os.Exit(1)
	}
}
