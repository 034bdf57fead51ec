package wire

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/proto"
)

// MaxMessage is the most bytes of a message of an Exchange.
const MaxMessage = 1 << 20

// Exchange carries requests, replies and raw bytes over one short-lived stream:
// each message is a varint length and that many bytes, at most MaxMessage. It is
// for one goroutine at a time. Every call has a deadline of its own; when the
// context given to NewExchange ends, the stream is reset.
type Exchange struct {
	stream  Stream
	br      *bufio.Reader
	timeout time.Duration
	ctx     context.Context
	release func() bool
	buf     []byte
}

// NewExchange takes stream over. timeout bounds each call that sends or
// receives; it must be above zero.
func NewExchange(ctx context.Context, stream Stream, timeout time.Duration) *Exchange {
	e := &Exchange{stream: stream, br: bufio.NewReaderSize(stream, 32<<10), timeout: timeout, ctx: ctx}
	e.release = context.AfterFunc(ctx, func() { _ = stream.Reset() })
	return e
}

// SetTimeout changes the bound of the calls that follow.
func (e *Exchange) SetTimeout(d time.Duration) { e.timeout = d }

// Send writes one message in one Write.
func (e *Exchange) Send(m proto.Message) error {
	size := proto.Size(m)
	if size > MaxMessage {
		return fmt.Errorf("message of %d bytes, at most %d: %w", size, MaxMessage, ErrTooLong)
	}
	e.buf = binary.AppendUvarint(e.buf[:0], uint64(size))
	b, err := proto.MarshalOptions{}.MarshalAppend(e.buf, m)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	e.buf = b
	return e.SendRaw(b)
}

// SendRaw writes bytes as they are.
func (e *Exchange) SendRaw(b []byte) error {
	if err := e.stream.SetWriteDeadline(time.Now().Add(e.timeout)); err != nil {
		return e.cause("send", err)
	}
	if _, err := e.stream.Write(b); err != nil {
		return e.cause("send", err)
	}
	return nil
}

// Receive reads one message into m. The end of the stream before a message is
// io.EOF.
func (e *Exchange) Receive(m proto.Message) error {
	if err := e.stream.SetReadDeadline(time.Now().Add(e.timeout)); err != nil {
		return e.cause("receive", err)
	}
	size, err := binary.ReadUvarint(e.br)
	if errors.Is(err, io.EOF) && e.ctx.Err() == nil {
		return err
	}
	if err != nil {
		return e.cause("receive", err)
	}
	if size > MaxMessage {
		return fmt.Errorf("message of %d bytes, at most %d: %w", size, MaxMessage, ErrFrame)
	}
	b, err := e.grow(int(size))
	if err != nil {
		return e.cause("receive", err)
	}
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(b, m); err != nil {
		return fmt.Errorf("%w: message: %w", ErrFrame, err)
	}
	return nil
}

// grow reads size bytes, allocating as they come.
func (e *Exchange) grow(size int) ([]byte, error) {
	b := e.buf[:0]
	for len(b) < size {
		n := min(size-len(b), 64<<10)
		if cap(b)-len(b) < n {
			b = append(b, make([]byte, n)...)[:len(b)]
		}
		if _, err := io.ReadFull(e.br, b[len(b):len(b)+n]); err != nil {
			return nil, noEOF(err)
		}
		b = b[:len(b)+n]
	}
	e.buf = b
	return b, nil
}

// ReceiveRaw fills b.
func (e *Exchange) ReceiveRaw(b []byte) error {
	if err := e.stream.SetReadDeadline(time.Now().Add(e.timeout)); err != nil {
		return e.cause("receive", err)
	}
	if _, err := io.ReadFull(e.br, b); err != nil {
		return e.cause("receive", noEOF(err))
	}
	return nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// cause prefers the context's reason over the reset that it made.
func (e *Exchange) cause(op string, err error) error {
	if ctxErr := context.Cause(e.ctx); ctxErr != nil {
		return fmt.Errorf("%s: %w", op, ctxErr)
	}
	return fmt.Errorf("%s: %w", op, err)
}

// Release gives the stream back to the caller, open and without deadlines, for
// another Exchange. It returns false, and the stream is of no more use, when the
// context has ended or bytes came that nobody asked for.
func (e *Exchange) Release() bool {
	return e.release() && e.br.Buffered() == 0 && e.stream.SetDeadline(time.Time{}) == nil
}

// Close ends the stream in order: the other side reads what was sent and then
// the end.
func (e *Exchange) Close() error {
	e.release()
	return e.stream.Close()
}

// Abort resets the stream.
func (e *Exchange) Abort() {
	e.release()
	_ = e.stream.Reset()
}
