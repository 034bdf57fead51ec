package gguf

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// errShort says that the bytes at hand end inside the header although the file goes on: read more and parse again.
var errShort = errors.New("header goes on beyond the bytes at hand")

// ErrTruncated is wrapped by errors about a file that ends before what its header promises.
var ErrTruncated = errors.New("truncated download?")

// cursor reads the header from the beginning of a file. Its first failure sticks, so that callers check once.
type cursor struct {
	b    []byte // the bytes at hand, from offset 0
	size uint64 // of the whole file, at least len(b)
	off  uint64
	err  error
}

// left is how many bytes of the file follow.
func (c *cursor) left() uint64 { return c.size - c.off }

// need makes sure that n bytes are at hand.
func (c *cursor) need(n uint64, what string) bool {
	switch {
	case c.err != nil:
		return false
	case n > c.left():
		c.err = fmt.Errorf("%s takes %d bytes at offset %d, the file has %d: %w Fetch the file again", what, n, c.off, c.size, ErrTruncated)
		return false
	case n > uint64(len(c.b))-c.off:
		c.err = errShort
		return false
	}
	return true
}

// take is the next n bytes, nil after a failure. The slice is the input's own.
func (c *cursor) take(n uint64, what string) []byte {
	if !c.need(n, what) {
		return nil
	}
	b := c.b[c.off : c.off+n]
	c.off += n
	return b
}

func (c *cursor) u32(what string) uint32 {
	if b := c.take(4, what); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) u64(what string) uint64 {
	if b := c.take(8, what); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// bytes is a length-prefixed string of at most limit bytes, the input's own.
func (c *cursor) bytes(limit uint64, what string) []byte {
	n := c.u64(what)
	if c.err == nil && n > limit {
		c.fail("%s is %d bytes long, at most %d are allowed", what, n, limit)
	}
	return c.take(n, what)
}

// count reads how many things follow, each of at least each bytes, and refuses more than the file has room for.
func (c *cursor) count(each, limit uint64, what string) uint64 {
	n := c.u64(what)
	if c.err != nil {
		return 0
	}
	if n > limit {
		c.fail("%s is %d, at most %d are allowed; the file is damaged or no model", what, n, limit)
		return 0
	}
	if n > c.left()/each {
		c.err = fmt.Errorf("%s is %d, the %d bytes that follow hold at most %d: %w Fetch the file again", what, n, c.left(), c.left()/each, ErrTruncated)
		return 0
	}
	return n
}

func (c *cursor) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf(format, args...)
	}
}
