package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

func run(tokens ...uint32) *weftv1.Frame {
	return &weftv1.Frame{Body: &weftv1.Frame_Run{Run: &weftv1.Run{
		Session: bytes.Repeat([]byte{1}, 16), Epoch: 2, Base: 3, Tokens: tokens, Sample: 1,
	}}}
}

func result() *weftv1.Frame {
	return &weftv1.Frame{Body: &weftv1.Frame_Result{Result: &weftv1.Result{Session: make([]byte, 16), Drawn: []uint32{5}}}}
}

// readAll takes frames off b and puts bodies together until an error.
func readAll(b []byte, limit int) (headers []*weftv1.Frame, payloads [][]byte, err error) {
	r, parts := newFrameReader(bytes.NewReader(b)), assembly{limit: limit}
	for {
		h, p, _, err := r.next()
		if err != nil {
			return headers, payloads, err
		}
		h, p, err = parts.add(h, p)
		if err != nil {
			return headers, payloads, err
		}
		if h != nil {
			headers, payloads = append(headers, h), append(payloads, bytes.Clone(p))
		}
	}
}

func TestWhatIsEncodedIsDecodedWholeAndInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stream []byte
		var headers []*weftv1.Frame
		var payloads [][]byte
		for range rapid.IntRange(1, 4).Draw(t, "frames") {
			h := run(rapid.SliceOfN(rapid.Uint32(), 0, 300).Draw(t, "tokens")...)
			size := rapid.OneOf(rapid.IntRange(0, 100), rapid.IntRange(MaxFrame-2100, MaxFrame+100), rapid.IntRange(0, 300_000)).Draw(t, "size")
			p := bytes.Repeat([]byte{byte(size)}, size)
			headers, payloads = append(headers, h), append(payloads, p)
			if err := split(h, p, func(h *weftv1.Frame, p []byte) (err error) {
				from := len(stream)
				stream, err = appendFrame(stream, h, p)
				if n := len(stream) - from; n > MaxFrame {
					t.Fatalf("frame of %d bytes", n)
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		gotHeaders, gotPayloads, err := readAll(stream, 300_000)
		if err != io.EOF || len(gotHeaders) != len(headers) {
			t.Fatalf("%d bodies, %v", len(gotHeaders), err)
		}
		for i := range headers {
			if !proto.Equal(headers[i], gotHeaders[i]) || !bytes.Equal(payloads[i], gotPayloads[i]) {
				t.Fatalf("body %d differs", i)
			}
		}
	})
}

// frameOf is the encoding of one frame, built by hand from the description of the
// format.
func frameOf(header *weftv1.Frame, payload []byte) []byte {
	h, err := proto.Marshal(header)
	if err != nil {
		panic(err)
	}
	rest := append(binary.AppendUvarint(nil, uint64(len(h))), h...)
	rest = append(rest, payload...)
	return append(binary.AppendUvarint(nil, uint64(len(rest))), rest...)
}

func TestAFrameHasTheDocumentedForm(t *testing.T) {
	for _, n := range []int{0, 1, 100, 127, 128, 5000, 60000} {
		h, p := run(1, 2, 3), bytes.Repeat([]byte{9}, n)
		got, err := appendFrame([]byte("x"), h, p)
		if err != nil || !bytes.Equal(got[1:], frameOf(h, p)) {
			t.Errorf("payload of %d bytes: %v", n, err)
		}
	}
	if _, err := appendFrame(nil, run(), make([]byte, MaxFrame)); !errors.Is(err, ErrTooLong) {
		t.Errorf("too long: %v", err)
	}
}

func part(h *weftv1.Frame, offset, total uint32, n int) []byte {
	h = proto.CloneOf(h)
	h.Part = &weftv1.Part{Offset: offset, Total: total}
	return frameOf(h, make([]byte, n))
}

func TestMalformedFramesAreRefused(t *testing.T) {
	other := run()
	other.GetRun().Base = 99
	open := &weftv1.Frame{Body: &weftv1.Frame_Open{Open: &weftv1.Open{Session: []byte{1}}}}
	for name, b := range map[string][]byte{
		"length zero":                {0},
		"length beyond a frame":      binary.AppendUvarint(nil, MaxFrame),
		"a huge length":              binary.AppendUvarint(nil, math.MaxUint64),
		"a length that never ends":   bytes.Repeat([]byte{0xff}, 12),
		"header longer than frame":   {2, 5, 1},
		"no header length":           {1, 0x80},
		"header is no message":       {3, 2, 0xff, 0xff},
		"an empty header":            {1, 0},
		"parts of a result":          part(result(), 0, 10, 5),
		"a first part in the middle": part(run(), 5, 10, 5),
		"an empty part":              part(run(), 0, 10, 0),
		"a part beyond the whole":    part(run(), 0, 10, 11),
		"a whole beyond the limit":   part(run(), 0, 1001, 10),
		"a part of another run":      append(part(run(), 0, 10, 5), part(other, 5, 10, 5)...),
		"a part of another body":     append(part(run(), 0, 10, 5), part(open, 5, 10, 5)...),
		"a changed total":            append(part(run(), 0, 10, 5), part(run(), 5, 11, 5)...),
		"an overlap":                 append(part(run(), 0, 10, 5), part(run(), 4, 10, 5)...),
		"a body between parts":       append(part(run(), 0, 10, 5), frameOf(result(), nil)...),
		"openings of two sessions":   append(part(open, 0, 10, 5), part(&weftv1.Frame{Body: &weftv1.Frame_Open{Open: &weftv1.Open{}}}, 5, 10, 5)...),
	} {
		if _, _, err := readAll(b, 1000); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: %v", name, err)
		}
	}
	whole := frameOf(run(1), make([]byte, 300))
	for n := 1; n < len(whole); n += 7 {
		if _, _, err := readAll(whole[:n], 1000); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
}

func TestWhatCannotBeSplitIsRefused(t *testing.T) {
	emit := func(*weftv1.Frame, []byte) error { return nil }
	if err := split(result(), make([]byte, MaxFrame), emit); !errors.Is(err, ErrTooLong) {
		t.Errorf("result: %v", err)
	}
	if err := split(run(make([]uint32, MaxFrame)...), make([]byte, 10), emit); !errors.Is(err, ErrTooLong) {
		t.Errorf("header of a frame's size: %v", err)
	}
}

func TestFloatsAndTokensTravelUnchanged(t *testing.T) {
	in := []float32{0, -0.5, 1e-30, math.MaxFloat32, float32(math.Inf(-1))}
	b := AppendFloats([]byte{1}, in)
	if want := []byte{0, 0, 0, 0, 0, 0, 0, 0xbf}; !bytes.Equal(b[1:9], append(want[:4], 0, 0, 0, 0xbf)) {
		t.Errorf("bytes %x", b[1:9])
	}
	out := make([]float32, len(in))
	if err := Floats(out, b[1:]); err != nil {
		t.Fatal(err)
	}
	for i := range in {
		if math.Float32bits(in[i]) != math.Float32bits(out[i]) {
			t.Errorf("value %d: %v, want %v", i, out[i], in[i])
		}
	}
	if err := Floats(out, b); !errors.Is(err, ErrFrame) {
		t.Errorf("wrong length: %v", err)
	}
	tokens, err := Tokens(AppendTokens(nil, []uint32{7, 1 << 31}))
	if err != nil || len(tokens) != 2 || tokens[0] != 7 || tokens[1] != 1<<31 {
		t.Error(tokens, err)
	}
	if _, err := Tokens(make([]byte, 5)); !errors.Is(err, ErrFrame) {
		t.Errorf("odd length: %v", err)
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(frameOf(run(1, 2), []byte("payload")))
	f.Add(append(part(run(), 0, 10, 5), part(run(), 5, 10, 5)...))
	f.Add([]byte{3, 2, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		headers, payloads, err := readAll(b, 1<<16)
		if err == nil {
			t.Fatal("reading ended without an error")
		}
		// What was taken comes back from its own encoding.
		for i, h := range headers {
			var again []byte
			if err := split(h, payloads[i], func(h *weftv1.Frame, p []byte) (err error) {
				again, err = appendFrame(again, h, p)
				return err
			}); err != nil {
				continue // a header near a frame's size has no room for a part
			}
			hs, ps, err := readAll(again, 1<<16)
			if err != io.EOF || len(hs) != 1 || !proto.Equal(hs[0], h) || !bytes.Equal(ps[0], payloads[i]) {
				t.Fatalf("body %d: %v", i, err)
			}
		}
	})
}
