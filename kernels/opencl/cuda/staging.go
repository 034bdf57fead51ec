package cuda

import (
	"fmt"
	"unsafe"
)

// Sizes of the memory by which data goes to the card and comes back.
const (
	slots     = 4
	slotBytes = 4 << 20
	readBytes = 4 << 20
	lineBytes = 64 // where pieces begin
)

// pinned is host memory that stays where it is, which the card reads and writes by itself.
type pinned struct {
	address unsafe.Pointer
	bytes   []byte
}

func (p *pinned) make(d *device, n int) error {
	if r := d.api.call(cuMemHostAlloc, uintptr(unsafe.Pointer(&p.address)), uintptr(n), 0); r != success {
		return fmt.Errorf("%d bytes of host memory: %w", n, d.fail("pin", r))
	}
	p.bytes = unsafe.Slice((*byte)(p.address), n)
	return nil
}

func (p *pinned) close(d *device) {
	if p.address != nil {
		d.api.call(cuMemFreeHost, uintptr(p.address))
		*p = pinned{}
	}
}

// staging is a ring of slots through which writes go. A slot takes pieces until it is full;
// it is used again when the copies out of it have ended.
type staging struct {
	ring   pinned
	events [slots]uintptr
	busy   [slots]bool // an event was recorded behind the slot's copies
	slot   int
	at     int // bytes of the slot that are taken
}

func (s *staging) make(d *device) error {
	if err := s.ring.make(d, slots*slotBytes); err != nil {
		return err
	}
	for i := range s.events {
		if r := d.api.call(cuEventCreate, uintptr(unsafe.Pointer(&s.events[i])), eventBlockingSync|eventDisableTiming); r != success {
			return d.fail("make an event", r)
		}
	}
	return nil
}

// write copies src into slots and has the card fetch it. The caller has entered.
func (s *staging) write(d *device, to uintptr, src []byte) error {
	for len(src) > 0 {
		if s.at == slotBytes {
			if err := s.next(d); err != nil {
				return err
			}
		}
		first := s.slot*slotBytes + s.at
		n := copy(s.ring.bytes[first:first+slotBytes-s.at], src)
		d.copying = [4]uintptr{to, uintptr(s.ring.address) + uintptr(first), uintptr(n), d.stream}
		if r := d.api.again(cuMemcpyHtoDAsync, d.copying[:]); r != success {
			return d.fail("write", r)
		}
		s.at = min(slotBytes, (s.at+n+lineBytes-1)&^(lineBytes-1))
		src, to = src[n:], to+uintptr(n)
	}
	return nil
}

// next goes on to the next slot and waits until it is free.
func (s *staging) next(d *device) error {
	if r := d.api.call(cuEventRecord, s.events[s.slot], d.stream); r != success {
		return d.fail("record an event", r)
	}
	s.busy[s.slot] = true
	s.slot, s.at = (s.slot+1)%slots, 0
	if s.busy[s.slot] {
		if r := d.api.call(cuEventSynchronize, s.events[s.slot]); r != success {
			return d.fail("wait for an upload", r)
		}
		s.busy[s.slot] = false
	}
	return nil
}

// settled notes that the stream is empty: every slot is free.
func (s *staging) settled() {
	clear(s.busy[:])
	s.at = 0
}

func (s *staging) close(d *device) {
	for i, e := range s.events {
		if e != 0 {
			d.api.call(cuEventDestroy, e)
			s.events[i] = 0
		}
	}
	s.ring.close(d)
}

// Close waits, gives everything back and lets the context go. A lost device is given back
// as far as the driver allows: its context is reset, so that the card can be opened again.
func (d *device) Close() error {
	if d.closed || !d.retained {
		d.closed = true
		return nil
	}
	var err error
	if lost := d.lost; lost == nil {
		if d.stream != 0 {
			err = d.Sync()
		}
	}
	lost := d.lost
	d.lost = nil
	if e := d.enter(); e == nil {
		d.release()
		d.api.call(cuCtxSetCurrent, 0)
		d.leave()
	}
	d.closed = true
	if lost != nil {
		d.api.call(cuDevicePrimaryCtxReset, uintptr(d.card.handle))
	}
	if r := d.api.call(cuDevicePrimaryCtxRelease, uintptr(d.card.handle)); r != success && err == nil && lost == nil {
		err = d.api.failure("give the context back", r)
	}
	return err
}

// release gives back what lies in the context. Errors are of no use any more.
func (d *device) release() {
	for address := range d.live {
		d.api.call(cuMemFree, address)
	}
	clear(d.live)
	d.dropGraphs()
	d.up.close(d)
	d.down.close(d)
	if d.stream != 0 {
		d.api.call(cuStreamDestroy, d.stream)
	}
	if d.module != 0 {
		d.api.call(cuModuleUnload, d.module)
	}
	d.stream, d.module = 0, 0
	clear(d.kernels)
}
