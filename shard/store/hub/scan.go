package hub

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"os"
	"slices"

	"github.com/weft-mesh/weft/shard/gguf"
	"github.com/weft-mesh/weft/shard/store/manifest"
	"github.com/weft-mesh/weft/shard/store/packed"
)

// A scan notes how far it is after so many bytes: at least saveEvery, and not more often than saves times in all, since a
// note holds the hashes of all that was read.
const (
	saveEvery = 16 << 20
	saves     = 256
)

// Scan reads the files of a release once, keeping nothing of them, and gives the model's manifest. Each file must have
// the SHA-256 that the hub lists, so the manifest can be trusted as far as a download could: whoever has it may ask
// anybody for any part of the weights and check what comes. How far it is stands in the file state, from which a scan of
// the same release goes on, also after the end of the program; it is deleted at the end. A server that does not send
// parts of files is refused with ErrNoRanges: nobody could fetch his layers there.
func (c *Client) Scan(ctx context.Context, r Release, state string, progress Progress) (*manifest.Manifest, error) {
	if len(r.Files) == 0 {
		return nil, errors.New("scan: no files")
	}
	if err := c.checkRanges(ctx, r.Files[0]); err != nil {
		return nil, fmt.Errorf("scan %s: %w", r.Files[0].Path, err)
	}
	g, err := c.Header(ctx, r.Files)
	if err != nil {
		return nil, err
	}
	s := newScan(c, r, g, state)
	m := newMeter(progress)
	for _, f := range r.Files {
		m.total += uint64(f.Size)
	}
	s.resume(m)
	stop := m.start()
	defer stop()
	for i := s.File; i < len(r.Files); i++ {
		m.file.Store(&r.Files[i].Path)
		if err := s.read(ctx, i, m); err != nil {
			return nil, fmt.Errorf("scan %s: %w", r.Files[i].Path, err)
		}
	}
	var headers [][]byte
	for _, p := range g.Parts() {
		headers = append(headers, p.Header)
	}
	out, err := manifest.New(headers, s.Chunks)
	if err == nil {
		_ = os.Remove(state)
	}
	return out, err
}

// scan is a running Scan. The exported fields are what is kept on disk; they are as they were at At.
type scan struct {
	Release Release
	File    int               // that is being read
	At      int64             // offset in it
	Sum     []byte            // state of the SHA-256 of its bytes before At
	Chunks  [][]manifest.Hash // by tensor of the model

	client  *Client
	path    string
	tensors [][]int // of each file, the numbers of its tensors in the order of their offsets
	g       *gguf.File
	every   int64 // bytes between two notes
	pos     int64 // bytes of the file that were taken
	next    int   // index in tensors[File] of the tensor that is being read
	sum     hash.Hash
	buf     []byte // of a chunk that is not whole
}

func newScan(c *Client, r Release, g *gguf.File, path string) *scan {
	s := &scan{Release: r, client: c, path: path, g: g, tensors: make([][]int, len(r.Files)), sum: sha256.New(), buf: make([]byte, 0, manifest.ChunkBytes)}
	s.Chunks = make([][]manifest.Hash, len(g.Tensors))
	s.every = saveEvery
	for _, f := range r.Files {
		s.every = max(s.every, f.Size/saves)
	}
	for i, t := range g.Tensors {
		s.tensors[t.Part] = append(s.tensors[t.Part], i)
	}
	for _, list := range s.tensors {
		slices.SortFunc(list, func(a, b int) int { return cmp.Compare(g.Tensors[a].Offset, g.Tensors[b].Offset) })
	}
	return s
}

// maxState bounds what is believed to be a scan's state.
const maxState = 1 << 30

// resume takes up what an earlier run noted, if it is of this release.
func (s *scan) resume(m *meter) {
	st, err := os.Stat(s.path)
	if err != nil || st.Size() > maxState {
		return
	}
	b, err := os.ReadFile(s.path)
	if err != nil {
		return
	}
	var old scan
	if json.Unmarshal(b, &old) != nil || !sameRelease(old.Release, s.Release) || old.File < 0 || old.File >= len(s.Release.Files) ||
		old.At < 0 || old.At > s.Release.Files[old.File].Size || len(old.Chunks) != len(s.Chunks) {
		return
	}
	sum := sha256.New()
	if un, ok := sum.(encoding.BinaryUnmarshaler); !ok || un.UnmarshalBinary(old.Sum) != nil {
		return
	}
	s.File, s.At, s.Chunks, s.sum, s.pos = old.File, old.At, old.Chunks, sum, old.At
	if !s.seek() {
		s.File, s.At, s.pos, s.next, s.sum = 0, 0, 0, 0, sha256.New()
		s.Chunks = make([][]manifest.Hash, len(s.g.Tensors))
		return
	}
	for _, f := range s.Release.Files[:s.File] {
		m.add(f.Size)
	}
	m.add(s.At)
}

func sameRelease(a, b Release) bool {
	return a.Repo == b.Repo && a.Revision == b.Revision && slices.EqualFunc(a.Files, b.Files, func(x, y File) bool {
		return x.Path == y.Path && x.Size == y.Size && x.SHA256 == y.SHA256
	})
}

// seek finds the tensor in which the scan goes on. It reports false when the noted hashes do not end at the noted offset.
func (s *scan) seek() bool {
	s.next = 0
	for _, i := range s.tensors[s.File] {
		t := &s.g.Tensors[i]
		have := uint64(len(s.Chunks[i])) * manifest.ChunkBytes
		if have >= t.Size {
			s.next++
			continue
		}
		return have == 0 && s.pos <= int64(t.Offset) || s.pos == int64(t.Offset+have)
	}
	return true
}

// read reads one file to its end and checks its hash. After a wrong one the file is read anew by the next call.
func (s *scan) read(ctx context.Context, i int, m *meter) error {
	f := s.Release.Files[i]
	if i != s.File {
		s.begin(i)
	}
	d := &download{client: s.client, file: f, name: f.Path}
	for attempt := 1; s.pos < f.Size; attempt++ {
		before := s.pos
		_, err := d.attempt(ctx, s, s.pos, m)
		if err == nil {
			continue
		}
		if s.pos > before {
			attempt = 1
		}
		if err := s.client.pause(ctx, attempt, err); err != nil {
			return err
		}
	}
	if got := hex.EncodeToString(s.sum.Sum(nil)); got != f.SHA256 {
		_ = os.Remove(s.path)
		return fmt.Errorf("%w: it has %s, %s was promised; try again or choose another source", ErrHash, got, f.SHA256)
	}
	if s.next != len(s.tensors[i]) {
		return fmt.Errorf("%w: the file ends before its last tensor", gguf.ErrTruncated)
	}
	return nil
}

// begin starts file i from its beginning.
func (s *scan) begin(i int) {
	s.File, s.At, s.pos, s.next = i, 0, 0, 0
	s.sum.Reset()
	s.buf = s.buf[:0]
	for _, t := range s.tensors[i] {
		s.Chunks[t] = nil
	}
}

// WriteAt takes the file's next bytes, for download.copy.
func (s *scan) WriteAt(b []byte, at int64) (int, error) {
	if at != s.pos {
		return 0, fmt.Errorf("bytes from %d on came, those from %d were expected", at, s.pos)
	}
	for rest := b; len(rest) > 0; {
		n := s.take(rest)
		_, _ = s.sum.Write(rest[:n])
		rest = rest[n:]
		if len(s.buf) == 0 && s.pos-s.At >= s.every {
			s.save()
		}
	}
	return len(b), nil
}

// take consumes bytes that lie between tensors, or in one chunk of one, and gives their number.
func (s *scan) take(b []byte) int {
	list := s.tensors[s.File]
	if s.next == len(list) { // behind the last tensor
		s.pos += int64(len(b))
		return len(b)
	}
	i := list[s.next]
	t := &s.g.Tensors[i]
	if gap := int64(t.Offset) - s.pos; gap > 0 {
		n := min(gap, int64(len(b)))
		s.pos += n
		return int(n)
	}
	whole := int(min(t.Size-uint64(len(s.Chunks[i]))*manifest.ChunkBytes, manifest.ChunkBytes))
	n := min(whole-len(s.buf), len(b))
	s.buf = append(s.buf, b[:n]...)
	s.pos += int64(n)
	if len(s.buf) < whole {
		return n
	}
	s.Chunks[i] = append(s.Chunks[i], manifest.HashChunk(s.buf, len(s.Chunks[i]), t.Size))
	s.buf = s.buf[:0]
	if uint64(len(s.Chunks[i]))*manifest.ChunkBytes >= t.Size {
		s.next++
	}
	return n
}

// Truncate goes back to the beginning of the file, where a server began anew.
func (s *scan) Truncate(size int64) error {
	if size != 0 {
		return fmt.Errorf("a scan cannot go back to byte %d", size)
	}
	s.begin(s.File)
	return nil
}

// save notes how far the scan is. That it cannot costs a later run time, no more.
func (s *scan) save() {
	sum, ok := s.sum.(encoding.BinaryMarshaler)
	if !ok {
		return
	}
	var err error
	if s.Sum, err = sum.MarshalBinary(); err != nil {
		return
	}
	s.At = s.pos
	b, err := json.Marshal(s)
	if err == nil {
		err = packed.ReplaceFile(s.client.opt.FS, s.path, b)
	}
	if err != nil {
		s.client.opt.Logger.Warn("how far the scan is cannot be noted", "error", err)
	}
}
