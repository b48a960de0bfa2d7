package main

import (
	"fmt"
	"os"
)

// topic is a page of elver help.
type topic struct{ name, help, text string }

var topics = []topic{
	{"console", "keys, pipes, standard error", `The program's standard input and output are this command's.

With a terminal on both, the program has a terminal too. Ctrl-C goes to the program, Ctrl-A x ends
the machine at once, Ctrl-A c is QEMU's monitor and back, Ctrl-A a is a Ctrl-A.

Otherwise they are pipes, byte for byte, with their end of file; Ctrl-C ends the machine, Ctrl-Z
stops it until it is continued. SIGTERM and SIGHUP to this command press the machine's power
button: the program gets SIGTERM (or what --stop-signal or its image says), and SIGKILL ten seconds
later.

What Elver itself has to say goes to standard error: warnings, --log, --strace, reports of crashes.
So does the program's standard error, but for a program with a terminal, which has it there.
`},
	{"files", "what files the program sees", `A program of this host comes with its interpreter and its libraries, and a small /etc/passwd; it sees
no other files of the host. Share those that it is to see:

  elver run -v .:/app -w /app /usr/bin/wc -l notes.txt

A directory is the root file system, read and written in place, with the rights of who runs this
command. --read-only keeps it as it is; /tmp is in memory then. An image is taken into memory; what
the program writes is gone at the end, but for what it writes to a -v. The machine needs memory for
it: -m, or --unpack to share it from a temporary directory.

/dev, /proc, /sys and /tmp are always there. A path of -v that the root lacks is made in memory.
`},
	{"network", "addresses, ports, names", `The machine has a network card in a network of QEMU's own, in which this host answers for the world:
the program can connect to anything that this host can, and resolve names, without any right on
this host. Its address is 10.0.2.15 (by DHCP) unless --ip says otherwise; this host is 10.0.2.2.

Nothing reaches the program but what -p forwards: -p 8080:80 is TCP port 8080 of all addresses of this
host, -p 127.0.0.1:8080:80 is that of one, -p 5353:53/udp is UDP. --net none leaves the card out.
`},
	{"status", "exit statuses", `The program's own, 0 to 255; 128+N when signal N killed it. 125: Elver refused or failed, with a
sentence that says why. 126: the program can't be executed. 127: it isn't there.
`},
}

func helpCommand(words []string) (int, error) {
	words, err := parse(nil, words)
	if err != nil {
		return statusFailed, err
	}
	if len(words) == 0 {
		printUsage(os.Stdout)
		return 0, nil
	}
	if c := find(words[0]); c != nil {
		printHelp(os.Stdout, c)
		return 0, nil
	}
	for _, t := range topics {
		if t.name == words[0] {
			fmt.Print(t.text)
			return 0, nil
		}
	}
	return statusFailed, fmt.Errorf("there is no command or topic %q: elver help lists them", words[0])
}
