package inet

import (
	"reflect"
	"sync/atomic"
	"unsafe"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// What programs ask of a connection and netstack knows but doesn't tell is read out of its endpoint: where
// it stands there is looked up by name, and 0 is what is found in a netstack without.
var (
	unsentAt      = offsetOf(reflect.TypeFor[tcp.Endpoint](), "sndQueueInfo", "TCPSndBufState", "SndBufUsed")
	senderAt      = offsetOf(reflect.TypeFor[tcp.Endpoint](), "snd")
	maxPayloadAt  = offsetOf(senderType(), "TCPSenderState", "MaxPayloadSize")
	outstandingAt = offsetOf(senderType(), "TCPSenderState", "Outstanding")
)

func senderType() reflect.Type {
	f, ok := reflect.TypeFor[tcp.Endpoint]().FieldByName("snd")
	if !ok || f.Type.Kind() != reflect.Pointer {
		return reflect.TypeFor[struct{}]()
	}
	return f.Type.Elem()
}

const nowhere = ^uintptr(0)

// offsetOf returns where a word or a pointer is in a struct, following fields of structs.
func offsetOf(t reflect.Type, path ...string) uintptr {
	at := uintptr(0)
	for _, name := range path {
		if t.Kind() != reflect.Struct {
			return nowhere
		}
		f, ok := t.FieldByName(name)
		if !ok || len(f.Index) != 1 {
			return nowhere
		}
		at += f.Offset
		t = f.Type
	}
	if t.Size() != 8 {
		return nowhere
	}
	return at
}

// word reads a word of e under its lock.
func word(p unsafe.Pointer, at uintptr) int {
	if p == nil || at == nowhere {
		return 0
	}
	return int(atomic.LoadInt64((*int64)(unsafe.Add(p, at))))
}

// unsent returns how many bytes e has yet to send or to see acknowledged.
func unsent(e *tcp.Endpoint) int {
	e.LockUser()
	defer e.UnlockUser()
	return word(unsafe.Pointer(e), unsentAt)
}

// sender returns how many bytes a segment of e has at most, and how many segments wait to be acknowledged.
func sender(e *tcp.Endpoint) (maxPayload, outstanding int) {
	if senderAt == nowhere {
		return 0, 0
	}
	e.LockUser()
	defer e.UnlockUser()
	s := *(*unsafe.Pointer)(unsafe.Add(unsafe.Pointer(e), senderAt))
	return word(s, maxPayloadAt), word(s, outstandingAt)
}
