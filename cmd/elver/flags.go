package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// option is a flag of a subcommand.
type option struct {
	long, short string
	value       string // what its value is called; empty: it takes none
	optional    bool   // the value may be left out; if it is there, it follows "="
	help        string
	choices     []string // for completion
	set         func(value string) error
}

// errHelp says that the user asked for help.
var errHelp = errors.New("help")

// parse reads the options that stand before the first other word and returns the words from there on.
// "--" ends the options.
func parse(options []option, words []string) (rest []string, err error) {
	for len(words) > 0 {
		w := words[0]
		if w == "--" {
			return words[1:], nil
		}
		if len(w) < 2 || w[0] != '-' {
			return words, nil
		}
		words = words[1:]
		if w == "-h" || w == "--help" {
			return nil, errHelp
		}
		o, value, hasValue, more := match(options, w)
		if o == nil {
			return nil, usageError("there is no option %s", w)
		}
		switch {
		case o.value == "" && hasValue:
			return nil, usageError("option --%s takes no value", o.long)
		case o.value != "" && !hasValue && !o.optional:
			if len(words) == 0 {
				return nil, usageError("option %s wants a value: %s", w, o.value)
			}
			value, words = words[0], words[1:]
		}
		if err := o.set(value); err != nil {
			return nil, usageError("option --%s: %v", o.long, err)
		}
		if more != "" {
			words = append([]string{more}, words...)
		}
	}
	return nil, nil
}

// match finds the option that word is: --long, --long=value, -s, -svalue, -s=value, or -st for -s -t, of
// which more is what follows.
func match(options []option, word string) (o *option, value string, hasValue bool, more string) {
	if name, ok := strings.CutPrefix(word, "--"); ok {
		name, value, hasValue = strings.Cut(name, "=")
		for i := range options {
			if options[i].long == name {
				return &options[i], value, hasValue, ""
			}
		}
		return nil, "", false, ""
	}
	for i := range options {
		o := &options[i]
		if o.short == "" || word[1:2] != o.short {
			continue
		}
		rest := word[2:]
		switch {
		case rest == "":
			return o, "", false, ""
		case o.value == "":
			return o, "", false, "-" + rest
		}
		return o, strings.TrimPrefix(rest, "="), true, ""
	}
	return nil, "", false, ""
}

// usage is an error of the command line.
type usage struct{ sentence string }

func (u usage) Error() string { return u.sentence }

func usageError(format string, args ...any) error { return usage{fmt.Sprintf(format, args...)} }

// printOptions writes the options as help shows them.
func printOptions(w io.Writer, options []option) {
	for _, o := range options {
		left := "      --" + o.long
		if o.short != "" {
			left = "  -" + o.short + ", --" + o.long
		}
		switch {
		case o.optional:
			left += "[=" + o.value + "]"
		case o.value != "":
			left += " " + o.value
		}
		if len(left) > 32 {
			fmt.Fprintf(w, "%s\n%34s%s\n", left, "", o.help)
		} else {
			fmt.Fprintf(w, "%-34s%s\n", left, o.help)
		}
	}
}
