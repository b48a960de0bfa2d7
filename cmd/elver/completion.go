package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

const completionDetail = `  bash   source <(elver completion bash)
  zsh    source <(elver completion zsh)
  fish   elver completion fish | source
`

func completionCommand(words []string) (int, error) {
	words, err := parse(nil, words)
	if err != nil {
		return statusFailed, err
	}
	if len(words) != 1 {
		return statusFailed, usageError("for which shell? bash, zsh or fish")
	}
	switch words[0] {
	case "bash":
		completeBash(os.Stdout)
	case "zsh":
		// zsh reads bash's completions by its own bashcompinit.
		fmt.Println("autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit")
		completeBash(os.Stdout)
	case "fish":
		completeFish(os.Stdout)
	default:
		return statusFailed, usageError("there is no completion for %q, but for bash, zsh and fish", words[0])
	}
	return 0, nil
}

func topicNames() string {
	names := commandNames()
	for _, t := range topics {
		names += " " + t.name
	}
	return names
}

func commandNames() string {
	var names []string
	for _, c := range commands {
		names = append(names, c.name)
	}
	return strings.Join(names, " ")
}

func completeBash(w io.Writer) {
	fmt.Fprintf(w, `_elver() {
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
	COMPREPLY=()
	if [ "$COMP_CWORD" = 1 ]; then
		COMPREPLY=($(compgen -W "%s" -- "$word"))
		return
	fi
	case ${COMP_WORDS[1]} in
	help) COMPREPLY=($(compgen -W "%s" -- "$word")); return ;;
	completion) COMPREPLY=($(compgen -W "bash zsh fish" -- "$word")); return ;;
	version) return ;;
	esac
	case $before in
`, commandNames(), topicNames())
	seen := map[string]bool{}
	for _, c := range commands {
		if c.options == nil {
			continue
		}
		for _, o := range c.options() {
			if len(o.choices) > 0 && !seen[o.long] {
				seen[o.long] = true
				fmt.Fprintf(w, "\t--%s) COMPREPLY=($(compgen -W \"%s\" -- \"$word\")); return ;;\n", o.long, strings.Join(o.choices, " "))
			}
		}
	}
	fmt.Fprint(w, "\tesac\n\tcase ${COMP_WORDS[1]}:$word in\n")
	for _, c := range commands {
		if c.options == nil {
			continue
		}
		var words []string
		for _, o := range c.options() {
			words = append(words, "--"+o.long)
		}
		fmt.Fprintf(w, "\t%s:-*) COMPREPLY=($(compgen -W \"%s --help\" -- \"$word\")) ;;\n", c.name, strings.Join(words, " "))
	}
	fmt.Fprint(w, "\t*) COMPREPLY=($(compgen -c -f -- \"$word\")) ;;\n\tesac\n}\ncomplete -o filenames -F _elver elver\n")
}

func completeFish(w io.Writer) {
	quote := func(s string) string {
		return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
	}
	for _, c := range commands {
		fmt.Fprintf(w, "complete -c elver -f -n __fish_use_subcommand -a %s -d %s\n", c.name, quote(c.help))
		if c.options == nil {
			continue
		}
		for _, o := range c.options() {
			fmt.Fprintf(w, "complete -c elver -n '__fish_seen_subcommand_from %s' -l %s", c.name, o.long)
			if o.short != "" {
				fmt.Fprintf(w, " -s %s", o.short)
			}
			if o.value != "" && !o.optional {
				fmt.Fprint(w, " -r")
			}
			if len(o.choices) > 0 {
				fmt.Fprintf(w, " -f -a %s", quote(strings.Join(o.choices, " ")))
			}
			fmt.Fprintf(w, " -d %s\n", quote(o.help))
		}
	}
	fmt.Fprintf(w, "complete -c elver -f -n '__fish_seen_subcommand_from help' -a %s\n", quote(topicNames()))
	fmt.Fprintf(w, "complete -c elver -f -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'\n")
}
