package wire

import (
	"bytes"
	"fmt"

	"google.golang.org/protobuf/proto"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// keptAssembly is the largest assembly buffer that is kept for the next body.
const keptAssembly = 4 << 20

// assembly puts bodies together whose payload came in parts. Between two parts
// of a body nothing but beats may come, so one buffer is enough. Memory grows
// with what has arrived, never with what was announced.
type assembly struct {
	limit  int           // most payload bytes of a body
	header *weftv1.Frame // of the first part; nil when no body is open
	buf    []byte
	share  share // holds the capacity of buf
}

// add takes one frame. It returns the body's header and payload when it is
// whole; the payload is valid until the next call. A nil header without an error
// means that more parts are to come.
func (a *assembly) add(header *weftv1.Frame, payload []byte) (*weftv1.Frame, []byte, error) {
	part := header.GetPart()
	if part == nil {
		if a.header != nil {
			return nil, nil, fmt.Errorf("whole body between parts of another: %w", ErrFrame)
		}
		return header, payload, nil
	}
	if err := a.check(header, part, len(payload)); err != nil {
		return nil, nil, err
	}
	if a.header == nil {
		a.header = header
		if cap(a.buf) > keptAssembly {
			a.buf = nil
			a.share.hold(0)
		}
		a.buf = a.buf[:0]
	}
	if err := a.grow(len(payload)); err != nil {
		return nil, nil, err
	}
	a.buf = append(a.buf, payload...)
	if len(a.buf) < int(part.Total) {
		return nil, nil, nil
	}
	whole := a.header
	a.header = nil
	whole.Part = nil
	return whole, a.buf, nil
}

// grow makes room for n bytes more, within the budget.
func (a *assembly) grow(n int) error {
	need := len(a.buf) + n
	if need <= cap(a.buf) {
		return nil
	}
	size := max(need, min(2*cap(a.buf), int(a.header.GetPart().GetTotal())))
	if !a.share.hold(size) {
		return fmt.Errorf("payload of %d bytes: %w", a.header.GetPart().GetTotal(), ErrBudget)
	}
	a.buf = append(make([]byte, 0, size), a.buf...)
	return nil
}

// check holds a part against the open body.
func (a *assembly) check(header *weftv1.Frame, part *weftv1.Part, size int) error {
	have, total := 0, part.Total
	if a.header != nil {
		have, total = len(a.buf), a.header.Part.Total
		if !samePart(a.header, header) {
			return fmt.Errorf("part of another body: %w", ErrFrame)
		}
	} else if !mayHaveParts(header) {
		return fmt.Errorf("body of this kind in parts: %w", ErrFrame)
	}
	switch {
	case uint64(part.Total) > uint64(a.limit):
		return fmt.Errorf("payload of %d bytes, at most %d: %w", part.Total, a.limit, ErrFrame)
	case part.Total != total || int64(part.Offset) != int64(have):
		return fmt.Errorf("part at %d of %d, want %d of %d: %w", part.Offset, part.Total, have, total, ErrFrame)
	case size == 0 || uint64(have)+uint64(size) > uint64(total):
		return fmt.Errorf("part of %d bytes at %d of %d: %w", size, have, total, ErrFrame)
	}
	return nil
}

func mayHaveParts(f *weftv1.Frame) bool {
	return f.GetRun() != nil || f.GetOpen() != nil
}

// samePart says whether f continues the body that first began.
func samePart(first, f *weftv1.Frame) bool {
	if r := first.GetRun(); r != nil {
		o := f.GetRun()
		return o != nil && bytes.Equal(r.Session, o.Session) && r.Epoch == o.Epoch && r.Base == o.Base
	}
	o := f.GetOpen()
	return o != nil && bytes.Equal(first.GetOpen().GetSession(), o.Session)
}

// continuation is the header of the parts after the first.
func continuation(f *weftv1.Frame) (*weftv1.Frame, error) {
	switch b := f.GetBody().(type) {
	case *weftv1.Frame_Run:
		run := &weftv1.Run{Session: b.Run.Session, Epoch: b.Run.Epoch, Base: b.Run.Base}
		return &weftv1.Frame{Body: &weftv1.Frame_Run{Run: run}}, nil
	case *weftv1.Frame_Open:
		return &weftv1.Frame{Body: &weftv1.Frame_Open{Open: &weftv1.Open{Session: b.Open.Session}}}, nil
	}
	return nil, fmt.Errorf("only runs and openings may have a payload of several frames: %w", ErrTooLong)
}

// split calls emit with the frames that carry header and payload: one, or
// several parts in order. The messages passed to emit are valid during the call.
func split(header *weftv1.Frame, payload []byte, emit func(*weftv1.Frame, []byte) error) error {
	// A Part of two 32-bit numbers takes at most 14 bytes.
	const partSize = 14
	hsize := proto.Size(header)
	if hsize+len(payload)+frameOverhead <= MaxFrame {
		return emit(header, payload)
	}
	next, err := continuation(header)
	if err != nil {
		return err
	}
	f := &weftv1.Frame{Body: header.GetBody(), Part: &weftv1.Part{Total: uint32(len(payload))}}
	for done := 0; done < len(payload); {
		room := MaxFrame - frameOverhead - partSize - proto.Size(&weftv1.Frame{Body: f.Body})
		if room <= 0 {
			return fmt.Errorf("frame header of %d bytes: %w", hsize, ErrTooLong)
		}
		n := min(room, len(payload)-done)
		f.Part.Offset = uint32(done)
		if err := emit(f, payload[done:done+n]); err != nil {
			return err
		}
		done += n
		f.Body = next.Body
	}
	return nil
}
