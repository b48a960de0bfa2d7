package main

import (
	"fmt"
	"runtime/debug"
)

// version is set by make to what git describes.
var version string

// versionText returns the version: make's, else what the Go toolchain recorded of the repository.
func versionText() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	revision, modified := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = "-dirty"
		}
	}
	if revision == "" {
		return "unknown"
	}
	return revision + modified
}

func versionCommand(words []string) (int, error) {
	if _, err := parse(nil, words); err != nil {
		return statusFailed, err
	}
	kernel := "with its kernel"
	if _, err := embedded.ReadFile("kernel/elver.kernel"); err != nil {
		kernel = "without a kernel: --kernel names one"
	}
	fmt.Printf("elver %s, %s\n", versionText(), kernel)
	return 0, nil
}
