package net

import "sync/atomic"

// Limit is a number of /proc/sys/net/core that sockets of all families look at.
type Limit struct {
	atomic.Int32
	Least int
}

var sendMost, receiveMost, sendDefault, receiveDefault, backlogMost Limit

func init() {
	sendMost.Least, receiveMost.Least, sendDefault.Least, receiveDefault.Least = minSend, minReceive, minSend, minReceive
	for _, l := range []*Limit{&sendMost, &receiveMost, &sendDefault, &receiveDefault} {
		l.Store(defaultBuffer)
	}
	backlogMost.Store(4096)
}

// Limits returns the limits by their places below /proc/sys/net.
func Limits() map[string]*Limit {
	return map[string]*Limit{
		"core/somaxconn": &backlogMost, "core/rmem_max": &receiveMost, "core/wmem_max": &sendMost,
		"core/rmem_default": &receiveDefault, "core/wmem_default": &sendDefault,
	}
}

// DefaultBuffers returns the sizes of a new socket's buffers, in bytes.
func DefaultBuffers() (send, receive int) { return int(sendDefault.Load()), int(receiveDefault.Load()) }

// Backlog returns how many connections listen(2) lets wait that asks for n.
func Backlog(n int) int { return int(min(uint32(n), uint32(backlogMost.Load()))) }
