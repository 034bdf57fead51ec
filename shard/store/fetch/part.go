package fetch

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/weft-mesh/weft/shard/store/manifest"
	"github.com/weft-mesh/weft/shard/store/packed"
)

// part is a tensor on its way: a sparse file of its bytes, and beside it a map with a byte for each chunk, 1 once the
// chunk is here. The map only saves time: what it claims is checked when a later run takes the file up.
type part struct {
	tensor *manifest.Tensor
	data   packed.PartFile // nil until the first chunk
	seen   packed.PartFile
	path   string
	fs     packed.FS
}

// PartPath is where the partial file of a tensor lies.
func PartPath(dir string, tensor manifest.Hash) string {
	return filepath.Join(dir, tensor.String()+".part")
}

func newPart(fs packed.FS, dir string, t *manifest.Tensor) *part {
	return &part{tensor: t, path: PartPath(dir, t.Hash), fs: fs}
}

func (p *part) mapPath() string { return p.path[:len(p.path)-len(".part")] + ".map" }

// resume takes up what an earlier run left and tells which chunks are really here.
func (p *part) resume(ctx context.Context) ([]bool, error) {
	have := make([]bool, len(p.tensor.Chunks))
	st, err := os.Stat(p.mapPath())
	if err != nil || st.Size() > int64(len(have)) {
		return have, nil // nothing, or nothing that can be believed
	}
	claimed, err := os.ReadFile(p.mapPath())
	if err != nil {
		return have, nil
	}
	if err := p.open(); err != nil {
		return nil, err
	}
	buf := make([]byte, manifest.ChunkBytes)
	for i, c := range claimed {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		b := buf[:p.tensor.ChunkSize(i)]
		if n, _ := p.data.ReadAt(b, int64(i)*manifest.ChunkBytes); c == 1 && n == len(b) {
			have[i] = p.tensor.Check(i, b) == nil
		}
	}
	return have, nil
}

// open opens the files, creating them if need be.
func (p *part) open() error {
	if p.data != nil {
		return nil
	}
	data, err := p.fs.OpenPart(p.path)
	if err != nil {
		return p.explain(err)
	}
	if err := data.Truncate(int64(p.tensor.Size)); err != nil {
		_ = data.Close()
		return p.explain(err)
	}
	seen, err := p.fs.OpenPart(p.mapPath())
	if err != nil {
		_ = data.Close()
		return p.explain(err)
	}
	p.data, p.seen = data, seen
	return nil
}

// write puts a checked chunk into the file.
func (p *part) write(index int, b []byte) error {
	if _, err := p.data.WriteAt(b, int64(index)*manifest.ChunkBytes); err != nil {
		return p.explain(err)
	}
	if _, err := p.seen.WriteAt([]byte{1}, int64(index)); err != nil {
		return p.explain(err)
	}
	return nil
}

func (p *part) explain(err error) error {
	return fmt.Errorf("keep tensor %s: %w", p.tensor.Name, packed.Explain(p.fs, err, p.path, int64(p.tensor.Size)))
}

// close closes the files and leaves them for a later run.
func (p *part) close() {
	if p.data != nil {
		_ = p.data.Close()
		_ = p.seen.Close()
		p.data, p.seen = nil, nil
	}
}

// remove deletes the files of a tensor that the sink has.
func (p *part) remove() {
	p.close()
	_ = p.fs.Remove(p.mapPath())
	_ = p.fs.Remove(p.path)
}
