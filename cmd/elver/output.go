package main

import (
	"os"

	"golang.org/x/term"
)

// Colours (ECMA-48, SGR).
const (
	red    = "1;31"
	green  = "32"
	yellow = "33"
)

// paint colours text if f is a terminal whose user didn't ask for none (no-color.org).
func paint(f *os.File, colour, text string) string {
	if !term.IsTerminal(int(f.Fd())) || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// progress is a line on the terminal that says what takes long. Elsewhere it is silent.
type progress struct{ shown bool }

func (p *progress) say(text string) {
	if term.IsTerminal(2) && os.Getenv("TERM") != "dumb" {
		p.shown = true
		os.Stderr.WriteString("\r\x1b[K" + text)
	}
}

// end takes the line away.
func (p *progress) end() {
	if p.shown {
		p.shown = false
		os.Stderr.WriteString("\r\x1b[K")
	}
}
