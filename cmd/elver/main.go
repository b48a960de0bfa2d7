// Elver runs unmodified Linux x86-64 programs in virtual machines of their own, on the kernel that it
// carries.
//
//	elver run [OPTION]... THING [ARGUMENT]...
//	elver build THING -o FILE
//	elver inspect THING
//
// See "elver help".
package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"elver/cmd/elver/machine"
)

// Exit statuses beside the program's own, as those of env(1) and docker-run(1).
const (
	statusFailed        = machine.StatusFailed // Elver refused or failed
	statusNotExecutable = 126
	statusNotFound      = 127
)

// failure is an error with an exit status of its own.
type failure struct {
	status int
	err    error
}

func (f failure) Error() string { return f.err.Error() }
func (f failure) Unwrap() error { return f.err }

// command is a subcommand.
type command struct {
	name, arguments, help string
	options               func() []option // for help and completion; nil: none
	run                   func(words []string) (status int, err error)
	detail                string // what help says below the options
}

var commands []command

func init() {
	// QEMU is to end with the thread that started it: the main one, which is the last.
	runtime.LockOSThread()
	commands = []command{
		{"run", "[OPTION]... THING [ARGUMENT]...", "run a program, a root directory or an image in a virtual machine",
			func() []option { return new(runOptions).table() }, runCommand, runDetail},
		{"build", "[OPTION]... THING -o FILE [-- ARGUMENT...]", "make one file that boots and runs a program, a directory or an image",
			func() []option { return new(buildOptions).table() }, buildCommand, buildDetail},
		{"inspect", "[OPTION]... THING [PROGRAM]", "say what a program needs, and whether it should run",
			func() []option { return new(inspectOptions).table() }, inspectCommand, inspectDetail},
		{"version", "", "say which version this is", nil, versionCommand, ""},
		{"completion", "bash|zsh|fish", "print a script that completes elver's words in that shell", nil, completionCommand, completionDetail},
		{"help", "[COMMAND|TOPIC]", "explain a command or a topic", nil, helpCommand, ""},
	}
}

func main() {
	status, err := execute(os.Args[1:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s %v%s\n", paint(os.Stderr, red, "elver:"), err, advice(err))
	}
	os.Exit(status)
}

// advice says what to do about an error that the system itself told.
func advice(err error) string {
	var at *fs.PathError
	if !errors.As(err, &at) || !strings.HasPrefix(at.Path, filepath.Clean(os.TempDir())+"/") {
		return ""
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return ": have TMPDIR name a directory with more room"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return ": have TMPDIR name a directory that can be written to"
	}
	return ""
}

// execute runs the command line.
func execute(words []string) (int, error) {
	if len(words) == 0 {
		printUsage(os.Stderr)
		return statusFailed, nil
	}
	name := words[0]
	switch name {
	case "-h", "--help":
		name = "help"
	case "-v", "-V", "--version":
		name = "version"
	}
	c := find(name)
	if c == nil {
		return statusFailed, fmt.Errorf("there is no command %q; elver help lists them (to run a program: elver run %s)", name, name)
	}
	status, err := c.run(words[1:])
	var asked usage
	var failed failure
	switch {
	case errors.Is(err, errHelp):
		printHelp(os.Stdout, c)
		return 0, nil
	case errors.As(err, &asked):
		return statusFailed, fmt.Errorf("%s: %s (see elver help %s)", c.name, asked.sentence, c.name)
	case errors.As(err, &failed):
		return failed.status, err
	}
	return status, err
}

func find(name string) *command {
	for i := range commands {
		if commands[i].name == name {
			return &commands[i]
		}
	}
	return nil
}

func printUsage(w io.Writer) {
	fmt.Fprintln(w, "Elver runs unmodified Linux x86-64 programs, each in a virtual machine of its own.\n\nUsage: elver COMMAND ...")
	fmt.Fprintln(w, "\nCommands:")
	for _, c := range commands {
		fmt.Fprintf(w, "  %-12s %s\n", c.name, c.help)
	}
	fmt.Fprintln(w, "\nTopics of elver help:")
	for _, t := range topics {
		fmt.Fprintf(w, "  %-12s %s\n", t.name, t.help)
	}
}

func printHelp(w io.Writer, c *command) {
	fmt.Fprintf(w, "Usage: elver %s %s\n%s.\n", c.name, c.arguments, sentence(c.help))
	if c.options != nil {
		fmt.Fprintln(w, "\nOptions:")
		printOptions(w, append(c.options(), option{long: "help", short: "h", help: "print this help"}))
	}
	if c.detail != "" {
		fmt.Fprintf(w, "\n%s", c.detail)
	}
}

// sentence returns text with a capital letter.
func sentence(text string) string {
	if text == "" || text[0] < 'a' || text[0] > 'z' {
		return text
	}
	return string(text[0]-'a'+'A') + text[1:]
}
