// Golookup looks names up with Go's own resolver: for each it prints how many addresses there are, and the least.
package main

import (
	"fmt"
	"net"
	"os"
	"slices"
)

func main() {
	for _, name := range os.Args[1:] {
		list, err := net.LookupHost(name)
		if e, ok := err.(*net.DNSError); ok && e.IsNotFound {
			fmt.Println(name, "not found")
			continue
		} else if err != nil {
			fmt.Println(name, err)
			continue
		}
		fmt.Println(name, len(list), slices.Min(list))
	}
}
