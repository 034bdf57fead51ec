package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"google.golang.org/protobuf/proto"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// MaxFrame is the most bytes of one frame on a stream, its length included.
const MaxFrame = 64 << 10

// frameOverhead bounds the two length prefixes of a frame: lengths up to
// MaxFrame take at most three bytes each.
const frameOverhead = 6

// Errors of the codec.
var (
	// ErrFrame means that the other side broke the framing: the stream is of no
	// more use and must be reset.
	ErrFrame = errors.New("malformed frame")
	// ErrTooLong means that a header or a payload does not fit.
	ErrTooLong = errors.New("too long")
)

// appendFrame appends one frame to dst. It fails when header and payload do not
// fit into MaxFrame bytes; dst is returned unchanged then.
func appendFrame(dst []byte, header *weftv1.Frame, payload []byte) ([]byte, error) {
	hsize := proto.Size(header)
	if hsize+len(payload)+frameOverhead > MaxFrame {
		return dst, fmt.Errorf("frame of %d header and %d payload bytes: %w", hsize, len(payload), ErrTooLong)
	}
	out := binary.AppendUvarint(dst, uint64(uvarintLen(hsize)+hsize+len(payload)))
	out = binary.AppendUvarint(out, uint64(hsize))
	out, err := proto.MarshalOptions{}.MarshalAppend(out, header)
	if err != nil {
		return dst, fmt.Errorf("encode frame header: %w", err)
	}
	return append(out, payload...), nil
}

func uvarintLen(v int) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

// frameReader takes frames off a stream. One buffer holds what has come, in which
// the longest frame fits; frames are read where they lie.
type frameReader struct {
	br   *bufio.Reader
	last int // bytes of the frame that next has returned, still in the buffer
}

func newFrameReader(r io.Reader) *frameReader {
	return &frameReader{br: bufio.NewReaderSize(r, MaxFrame)}
}

// next returns the next frame's header, fresh for the caller to keep, its
// payload, valid until the next call, and the frame's size on the stream. At a
// frame's border the end of the stream is io.EOF, inside one io.ErrUnexpectedEOF.
func (r *frameReader) next() (*weftv1.Frame, []byte, int, error) {
	if _, err := r.br.Discard(r.last); err != nil {
		return nil, nil, 0, err // cannot happen: it is in the buffer
	}
	r.last = 0
	size, n, err := r.length()
	if err != nil {
		return nil, nil, 0, err
	}
	body, err := r.br.Peek(size)
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, nil, 0, err
	}
	r.last = size
	header, payload, err := parseFrame(body)
	return header, payload, n + size, err
}

// length reads a frame's length prefix and checks it.
func (r *frameReader) length() (size, prefix int, err error) {
	var v uint64
	for i := range 3 {
		b, err := r.br.ReadByte()
		if err != nil {
			if i > 0 && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return 0, 0, err
		}
		v |= uint64(b&0x7f) << (7 * i)
		if b >= 0x80 {
			continue
		}
		if v == 0 || int(v)+i+1 > MaxFrame {
			return 0, 0, fmt.Errorf("frame length %d, at most %d: %w", v, MaxFrame-i-1, ErrFrame)
		}
		return int(v), i + 1, nil
	}
	return 0, 0, fmt.Errorf("frame length of more than three bytes: %w", ErrFrame)
}

// parseFrame splits what follows the length prefix.
func parseFrame(body []byte) (*weftv1.Frame, []byte, error) {
	hsize, n := binary.Uvarint(body)
	if n <= 0 || hsize > uint64(len(body)-n) {
		return nil, nil, fmt.Errorf("header length in a frame of %d bytes: %w", len(body), ErrFrame)
	}
	end := n + int(hsize)
	header := &weftv1.Frame{}
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(body[n:end], header); err != nil {
		return nil, nil, fmt.Errorf("%w: header: %w", ErrFrame, err)
	}
	if header.GetBody() == nil {
		return nil, nil, fmt.Errorf("header of a kind that this version does not know: %w", ErrFrame)
	}
	return header, body[end:], nil
}

// AppendFloats appends values to dst, four little-endian bytes each.
func AppendFloats(dst []byte, values []float32) []byte {
	n := len(dst)
	dst = append(dst, make([]byte, 4*len(values))...)
	out := dst[n:]
	for i, v := range values {
		binary.LittleEndian.PutUint32(out[4*i:4*i+4], math.Float32bits(v))
	}
	return dst
}

// Floats fills dst with the values in payload; both must be of the same length
// in elements, which is checked.
func Floats(dst []float32, payload []byte) error {
	if len(payload) != 4*len(dst) {
		return fmt.Errorf("payload of %d bytes for %d values: %w", len(payload), len(dst), ErrFrame)
	}
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(payload[4*i : 4*i+4]))
	}
	return nil
}

// AppendTokens appends tokens to dst, four little-endian bytes each.
func AppendTokens(dst []byte, tokens []uint32) []byte {
	for _, t := range tokens {
		dst = binary.LittleEndian.AppendUint32(dst, t)
	}
	return dst
}

// Tokens returns the tokens in payload in a new slice.
func Tokens(payload []byte) ([]uint32, error) {
	if len(payload)%4 != 0 {
		return nil, fmt.Errorf("token payload of %d bytes: %w", len(payload), ErrFrame)
	}
	out := make([]uint32, len(payload)/4)
	for i := range out {
		out[i] = binary.LittleEndian.Uint32(payload[4*i:])
	}
	return out, nil
}
