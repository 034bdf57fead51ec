package icd

import (
	"fmt"
	"unsafe"

	"github.com/weft-mesh/weft/kernels/opencl/library"
)

// Sizes of the memory by which data goes to the device.
const (
	slots     = 4
	slotBytes = 4 << 20
	lineBytes = 64 // where pieces begin

	memAllocHost = 1 << 4
	mapReadWrite = 1<<0 | 1<<1
)

// staging is a ring of slots of host memory that the device fetches from by itself while the
// caller, and the disk that it reads from, go on. A slot takes pieces until it is full; it
// is used again when the copies out of it have ended.
type staging struct {
	buffer uintptr // an OpenCL buffer in pinned host memory
	bytes  []byte  // its memory
	events [slots]uintptr
	slot   int
	at     int // bytes of the slot that are taken
}

func (s *staging) make(d *device) error {
	var c int32
	s.buffer = library.Call(d.l.createBuffer, d.context, memReadWrite|memAllocHost, slots*slotBytes, 0, uintptr(unsafe.Pointer(&c)))
	if c != 0 {
		return fmt.Errorf("make host memory: %w", allocError(slots*slotBytes, code(c)))
	}
	at := library.Call(d.l.mapBuffer, d.queue, s.buffer, yes, mapReadWrite, 0, slots*slotBytes, 0, 0, 0, uintptr(unsafe.Pointer(&c)))
	if c != 0 {
		return fmt.Errorf("map host memory: %w", allocError(slots*slotBytes, code(c)))
	}
	s.bytes = unsafe.Slice(*(**byte)(unsafe.Pointer(&at)), slots*slotBytes)
	return nil
}

// write copies src into slots and has the device fetch it.
func (s *staging) write(d *device, m *memory, offset int64, src []byte) code {
	for len(src) > 0 {
		if s.at == slotBytes {
			if c := s.next(d); c != success {
				return c
			}
		}
		first := s.slot*slotBytes + s.at
		n := copy(s.bytes[first:first+slotBytes-s.at], src)
		c := d.do(d.l.enqueueWrite, d.queue, m.id, no, uintptr(offset), uintptr(n), uintptr(unsafe.Pointer(&s.bytes[first])), 0, 0, 0)
		if c != success {
			return c
		}
		s.at = min(slotBytes, (s.at+n+lineBytes-1)&^(lineBytes-1))
		src, offset = src[n:], offset+int64(n)
	}
	return success
}

// next goes on to the next slot and waits until it is free.
func (s *staging) next(d *device) code {
	if c := d.do(d.l.enqueueMarker, d.queue, 0, 0, uintptr(unsafe.Pointer(&s.events[s.slot]))); c != success {
		return c
	}
	if c := d.do(d.l.flush, d.queue); c != success {
		return c
	}
	s.slot, s.at = (s.slot+1)%slots, 0
	event := &s.events[s.slot]
	if *event == 0 {
		return success
	}
	c := d.do(d.l.waitEvents, 1, uintptr(unsafe.Pointer(event)))
	_ = d.do(d.l.releaseEvent, *event)
	*event = 0
	return c
}

// close gives everything back. The queue has been waited for.
func (s *staging) close(d *device) {
	for _, e := range s.events {
		if e != 0 {
			_ = d.do(d.l.releaseEvent, e)
		}
	}
	if s.bytes != nil {
		_ = d.do(d.l.unmapMem, d.queue, s.buffer, uintptr(unsafe.Pointer(&s.bytes[0])), 0, 0, 0)
		_ = d.do(d.l.finish, d.queue)
	}
	if s.buffer != 0 {
		_ = d.do(d.l.releaseMem, s.buffer)
	}
	*s = staging{}
}
