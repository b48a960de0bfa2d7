package boot

import (
	"errors"
	"strings"
)

// word is one word of the command line, quotes removed.
type word struct {
	text string
	// listOpen: an unquoted "[" follows the first "=". listClose: the word ends in an unquoted "]".
	listOpen, listClose bool
	quoted              bool // some of it is
}

// splitWords splits a command line as a POSIX shell does, without expansions: '…' is literal, in
// "…" a backslash escapes " and \ only, outside of quotes it escapes anything. Unlike a shell's, a
// backslash at the very end stands for itself.
func splitWords(line string) ([]word, error) {
	var words []word
	var text strings.Builder
	var w word
	inWord := false
	afterEquals := false // the byte before was the word's first "="
	seenEquals := false
	add := func(c byte, quoted bool) {
		inWord = true
		w.quoted = w.quoted || quoted
		w.listOpen = w.listOpen || afterEquals && c == '[' && !quoted
		w.listClose = c == ']' && !quoted
		afterEquals = c == '=' && !seenEquals
		seenEquals = seenEquals || afterEquals
		text.WriteByte(c)
	}
	finish := func() {
		if inWord {
			w.text = text.String()
			words = append(words, w)
		}
		text.Reset()
		w, inWord, afterEquals, seenEquals = word{}, false, false, false
	}
	for i := 0; i < len(line); i++ {
		switch c := line[i]; c {
		case ' ', '\t', '\n':
			finish()
		case '\'':
			inWord = true
			end := strings.IndexByte(line[i+1:], '\'')
			if end < 0 {
				return nil, errors.New("the command line has a ' without its partner")
			}
			for _, c := range []byte(line[i+1:][:end]) {
				add(c, true)
			}
			i += 1 + end
		case '"':
			inWord = true
			for i++; ; i++ {
				if i >= len(line) {
					return nil, errors.New("the command line has a \" without its partner")
				}
				if line[i] == '"' {
					break
				}
				if line[i] == '\\' && i+1 < len(line) && (line[i+1] == '"' || line[i+1] == '\\') {
					i++
				}
				add(line[i], true)
			}
		case '\\':
			if i+1 == len(line) {
				add(c, true)
				break
			}
			i++
			if line[i] != '\n' { // a continued line
				add(line[i], true)
			}
		default:
			add(c, false)
		}
	}
	finish()
	return words, nil
}
