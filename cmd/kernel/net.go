//go:build elver

package main

import (
	"golang.org/x/sys/unix"

	"elver/net"
	"elver/net/inet"
)

// registerFamilies has programs make sockets.
func registerFamilies() *inet.Network {
	network := new(inet.Network)
	for _, number := range []int{unix.AF_INET, unix.AF_INET6} {
		net.Register(number, inet.Family{Network: network, Number: number})
	}
	return network
}
