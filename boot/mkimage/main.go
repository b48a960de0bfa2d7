// Command mkimage makes a bootable kernel image from the ELF file that the Go linker wrote.
//
//	mkimage -in linked.elf -out elver.kernel [-s]
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"

	"elver/boot/image"
)

func main() {
	in := flag.String("in", "", "the linked kernel")
	out := flag.String("out", "", "the image to write")
	strip := flag.Bool("s", false, "leave out symbols and debug information")
	allowFS := flag.String("allow-fs", "", "comma-separated functions that may use the FS segment")
	allowSyscall := flag.String("allow-syscall", "", "comma-separated functions that may hold SYSCALL")
	flag.Parse()
	if *in == "" || *out == "" || flag.NArg() != 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*in, *out, image.Options{
		Strip:        *strip,
		AllowFS:      list(*allowFS),
		AllowSyscall: list(*allowSyscall),
	}); err != nil {
		fmt.Fprintln(os.Stderr, "mkimage:", err)
		os.Exit(1)
	}
}

func list(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' })
}

func run(in, out string, opts image.Options) error {
	linked, err := os.ReadFile(in)
	if err != nil {
		return err
	}
	kernel, err := image.Write(linked, opts)
	if err != nil {
		return fmt.Errorf("%s: %w", in, err)
	}
	return os.WriteFile(out, kernel, 0o755)
}
