package packed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/weft-mesh/weft/kernels/quant"
)

// TempPattern is how the names of unfinished files look to filepath.Match; whoever opens the directory alone may remove
// them.
const TempPattern = ".tmp-*"

// Options are how Create writes.
type Options struct {
	FS       FS            // nil is the disk
	Slots    chan struct{} // shared between calls: at most its capacity slabs are packed at once. nil allows Parallel
	Parallel int           // goroutines of this call; at least one
	Verify   bool          // unpack what was packed and compare, so that the source may be thrown away
	Done     func(n int64) // told of source bytes that are finished, by several goroutines; may be nil
}

func (o *Options) ensureDefaults() {
	if o.FS == nil {
		o.FS = Disk{}
	}
	o.Parallel = max(o.Parallel, 1)
	if o.Slots == nil {
		o.Slots = make(chan struct{}, o.Parallel)
	}
	if o.Done == nil {
		o.Done = func(int64) {}
	}
}

// Create writes the file of spec into dir from the tensor's GGUF bytes src, which it reads by several goroutines, and
// returns when it is there. Its content is safe on disk then; its name is after FS.SyncDir, which whoever throws the
// source away must call. After an error nothing is left behind. The bytes' hash is not checked.
func Create(ctx context.Context, dir string, spec Spec, src io.ReaderAt, o Options) error {
	o.ensureDefaults()
	head, err := spec.header()
	if err != nil {
		return err
	}
	path := filepath.Join(dir, spec.Name())
	if err := CheckSpace(o.FS, dir, uint64(spec.Bytes())); err != nil {
		return err
	}
	f, err := o.FS.CreateTemp(dir, TempPattern)
	if err != nil {
		return Explain(o.FS, err, path, spec.Bytes())
	}
	w := &writer{spec: spec, src: src, file: f, opt: &o}
	err = w.write(ctx, head)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = o.FS.Rename(f.Name(), path)
	}
	if err != nil {
		_ = o.FS.Remove(f.Name())
		return Explain(o.FS, err, path, spec.Bytes())
	}
	return nil
}

// writer is one running Create.
type writer struct {
	spec Spec
	src  io.ReaderAt
	file WriteFile
	opt  *Options
}

func (w *writer) write(ctx context.Context, head []byte) error {
	if err := w.file.Truncate(w.spec.Bytes()); err != nil {
		return err
	}
	one, count := w.packSlab, (w.spec.groups()+w.spec.slabGroups()-1)/w.spec.slabGroups()
	if w.spec.Raw {
		one, count = w.copySlab, int((w.spec.Size+slabBytes-1)/slabBytes)
	}
	if err := w.slabs(ctx, count, one); err != nil {
		return err
	}
	if _, err := w.file.WriteAt(head, 0); err != nil {
		return err
	}
	return w.file.Sync()
}

// slabs runs one for every slab, in parallel, until an error.
func (w *writer) slabs(ctx context.Context, count int, one func(i int, buf *slab) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(w.opt.Parallel, count) {
		wg.Go(func() {
			buf := new(slab)
			for i := int(next.Add(1)) - 1; i < count; i = int(next.Add(1)) - 1 {
				select {
				case w.opt.Slots <- struct{}{}:
				case <-ctx.Done():
					return
				}
				err := ctx.Err()
				if err == nil {
					err = one(i, buf)
				}
				<-w.opt.Slots
				if err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// slab is one goroutine's memory, kept from slab to slab.
type slab struct {
	src, back []byte
	packed    *quant.Packed
}

// grow makes b n bytes long.
func grow(b []byte, n int64) []byte {
	if int64(cap(b)) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// shape makes the slab's packed memory fit rows.
func (b *slab) shape(s Spec, rows int) error {
	if b.packed != nil && b.packed.Rows == rows {
		return nil
	}
	p, err := quant.New(s.Type, rows, s.Cols)
	b.packed = p
	return err
}

func (w *writer) packSlab(i int, b *slab) error {
	per := w.spec.slabGroups()
	first := i * per
	groups := min(per, w.spec.groups()-first)
	row := first * quant.GroupRows
	rows := min(groups*quant.GroupRows, w.spec.Rows-row)
	rowBytes, err := w.spec.Type.RowBytes(w.spec.Cols)
	if err != nil {
		return err
	}
	b.src = grow(b.src, rowBytes*int64(rows))
	if err := readFull(w.src, b.src, rowBytes*int64(row)); err != nil {
		return err
	}
	if err := b.shape(w.spec, rows); err != nil {
		return err
	}
	if err := b.packed.Pack(b.src, 0, groups); err != nil {
		return fmt.Errorf("rows %d to %d: %w", row, row+rows-1, err)
	}
	if w.opt.Verify {
		if err := b.compare(groups); err != nil {
			return fmt.Errorf("rows %d to %d: %w", row, row+rows-1, err)
		}
	}
	if err := w.writePlanes(b.packed, first); err != nil {
		return err
	}
	w.opt.Done(int64(len(b.src)))
	return nil
}

// compare checks that the packed slab gives its source back.
func (b *slab) compare(groups int) error {
	b.back = grow(b.back, int64(len(b.src)))
	if err := b.packed.Unpack(b.back, 0, groups); err != nil {
		return err
	}
	if string(b.back) != string(b.src) {
		return fmt.Errorf("%s weights do not survive packing; keep the file and add it with weft add", b.packed.Type)
	}
	return nil
}

// writePlanes writes a slab whose first group is number first of the tensor.
func (w *writer) writePlanes(p *quant.Packed, first int) error {
	quants, _, err := w.spec.planes()
	if err != nil {
		return err
	}
	if _, err := w.file.WriteAt(p.Quants, HeaderBytes+int64(first)*int64(p.QStride())); err != nil {
		return err
	}
	if len(p.Scales) == 0 {
		return nil
	}
	_, err = w.file.WriteAt(p.Scales, HeaderBytes+quants+int64(first)*int64(p.SStride()))
	return err
}

func (w *writer) copySlab(i int, b *slab) error {
	at := int64(i) * slabBytes
	b.src = grow(b.src, min(slabBytes, w.spec.Size-at))
	if err := readFull(w.src, b.src, at); err != nil {
		return err
	}
	if _, err := w.file.WriteAt(b.src, HeaderBytes+at); err != nil {
		return err
	}
	w.opt.Done(int64(len(b.src)))
	return nil
}

// readFull reads all of b at off. A source that ends before is an error.
func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read %d bytes of the tensor at %d: %w", len(b), off, err)
}
