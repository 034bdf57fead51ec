package fetch_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weft-mesh/weft/shard/store/fetch"
	"github.com/weft-mesh/weft/shard/store/manifest"
	"github.com/weft-mesh/weft/shard/store/packed"
)

const mib = manifest.ChunkBytes

func TestTensorsComeFromSeveralSourcesAtOnce(t *testing.T) {
	ts, data := tensors(4*mib+10, 100, mib, 3*mib-1)
	a, b := &peer{id: "a", data: data, delay: time.Millisecond}, &peer{id: "b", data: data, delay: time.Millisecond}
	sink, dir := newShelf(), t.TempDir()
	var last fetch.Status
	err := fetch.Fetch(t.Context(), append(ts, ts[0]), []fetch.Source{a, b}, fetch.Options{
		Dir: dir, Sink: sink, PerSource: 1, Progress: func(s fetch.Status) { last = s },
	})
	if err != nil {
		t.Fatal(err)
	}
	sink.expect(t, data)
	empty(t, dir)
	if a.count() == 0 || b.count() == 0 || a.count()+b.count() != 5+1+1+3 {
		t.Errorf("requests: %d and %d", a.count(), b.count())
	}
	if want := uint64(4*mib + 10 + 100 + mib + 3*mib - 1); last.Done != want || last.Total != want || last.Sources != 2 {
		t.Errorf("%+v", last)
	}
}

func TestSourceThatSendsWrongBytesIsSetAsideAtOnce(t *testing.T) {
	ts, data := tensors(6 * mib)
	for name, change := range map[string]func([]byte) []byte{
		"flipped": flip,
		"short":   func(b []byte) []byte { return b[1:] },
		"long":    func(b []byte) []byte { return append(b, 0) },
		"nothing": func([]byte) []byte { return nil },
	} {
		liar := &peer{id: "liar", data: data, bad: func(int64) (func([]byte) []byte, error) { return change, nil }}
		good := &peer{id: "good", data: data, delay: 5 * time.Millisecond}
		sink := newShelf()
		var aside []string
		err := fetch.Fetch(t.Context(), ts, []fetch.Source{liar, good}, fetch.Options{
			Dir: t.TempDir(), Sink: sink, PerSource: 2, SetAside: func(id string, err error) {
				if !errors.Is(err, manifest.ErrWrongChunk) {
					t.Errorf("%s: %v", name, err)
				}
				aside = append(aside, id)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		sink.expect(t, data)
		if len(aside) != 1 || aside[0] != "liar" || liar.count() > 2 {
			t.Errorf("%s: set aside %v after %d requests", name, aside, liar.count())
		}
	}
}

func TestFetchWithoutAnyGoodSourceSaysWhy(t *testing.T) {
	ts, data := tensors(2*mib, 100)
	liar := &peer{id: "liar", data: data, bad: func(int64) (func([]byte) []byte, error) { return flip, nil }}
	down := &peer{id: "down", data: data, bad: func(int64) (func([]byte) []byte, error) { return nil, errors.New("refused") }}
	for _, c := range []struct {
		sources []fetch.Source
		words   []string
	}{
		{nil, []string{"no source at all", "t0"}},
		{[]fetch.Source{&peer{id: "x"}}, []string{"other tensors"}},
		{[]fetch.Source{liar, down}, []string{"liar: ", "wrong hash", "down: refused"}},
	} {
		err := fetch.Fetch(t.Context(), ts, c.sources, fetch.Options{Dir: t.TempDir(), Sink: newShelf(), Failures: 3, Backoff: time.Millisecond})
		if !errors.Is(err, fetch.ErrNoSource) {
			t.Fatal(err)
		}
		for _, w := range c.words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q is not in: %v", w, err)
			}
		}
	}
}

func TestFlakySourceIsTriedAgain(t *testing.T) {
	ts, data := tensors(8 * mib)
	p := &peer{id: "p", data: data, bad: func(n int64) (func([]byte) []byte, error) {
		if n%2 == 0 {
			return nil, errors.New("reset")
		}
		return nil, nil
	}}
	sink := newShelf()
	if err := fetch.Fetch(t.Context(), ts, []fetch.Source{p}, fetch.Options{Dir: t.TempDir(), Sink: sink, PerSource: 1, Backoff: time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	sink.expect(t, data)
}

// spare is a source that is asked only when nobody else has a tensor.
type spare struct{ *peer }

func (spare) LastResort() bool { return true }

func TestTheLastResortGivesOnlyWhatNobodyElseHas(t *testing.T) {
	ts, data := tensors(3*mib, 2*mib)
	some := map[manifest.Hash][]byte{ts[0].Hash: data[ts[0].Hash]}
	p, s := &peer{id: "p", data: some, delay: 5 * time.Millisecond}, &peer{id: "s", data: data}
	sink := newShelf()
	if err := fetch.Fetch(t.Context(), ts, []fetch.Source{spare{s}, p}, fetch.Options{Dir: t.TempDir(), Sink: sink}); err != nil {
		t.Fatal(err)
	}
	sink.expect(t, data)
	if p.count() != 3 || s.count() != 2 {
		t.Errorf("%d chunks came from the peer, %d from the last resort", p.count(), s.count())
	}
	// When the others are set aside, it takes their place.
	p = &peer{id: "p", data: data, bad: func(int64) (func([]byte) []byte, error) { return flip, nil }}
	sink = newShelf()
	if err := fetch.Fetch(t.Context(), ts, []fetch.Source{spare{s}, p}, fetch.Options{Dir: t.TempDir(), Sink: sink}); err != nil {
		t.Fatal(err)
	}
	sink.expect(t, data)
}

func TestSlowSourceDoesNotHoldTheLastChunks(t *testing.T) {
	ts, data := tensors(3 * mib)
	stuck, good := &peer{id: "stuck", data: data, hangs: true}, &peer{id: "good", data: data}
	sink := newShelf()
	start := time.Now()
	if err := fetch.Fetch(t.Context(), ts, []fetch.Source{stuck, good}, fetch.Options{Dir: t.TempDir(), Sink: sink, Hedge: 50 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	sink.expect(t, data)
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("it took %s", d)
	}
}

func TestSilentSourceFailsAfterTheTimeout(t *testing.T) {
	ts, data := tensors(10)
	err := fetch.Fetch(t.Context(), ts, []fetch.Source{&peer{id: "p", data: data, hangs: true}}, fetch.Options{
		Dir: t.TempDir(), Sink: newShelf(), ChunkTimeout: 10 * time.Millisecond, Failures: 2, Backoff: time.Millisecond,
	})
	if !errors.Is(err, fetch.ErrNoSource) || !strings.Contains(err.Error(), "deadline") {
		t.Fatal(err)
	}
}

func TestCancelledFetchGoesOnWhereItWas(t *testing.T) {
	ts, data := tensors(10*mib, 5*mib+3)
	ctx, cancel := context.WithCancel(t.Context())
	first := &peer{id: "p", data: data, bad: func(n int64) (func([]byte) []byte, error) {
		if n == 7 {
			cancel()
		}
		return nil, nil
	}}
	sink, dir := newShelf(), t.TempDir()
	if err := fetch.Fetch(ctx, ts, []fetch.Source{first}, fetch.Options{Dir: dir, Sink: sink, PerSource: 1}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	second := &peer{id: "p", data: data}
	if err := fetch.Fetch(t.Context(), ts, []fetch.Source{second}, fetch.Options{Dir: dir, Sink: sink, PerSource: 1}); err != nil {
		t.Fatal(err)
	}
	sink.expect(t, data)
	empty(t, dir)
	// Six chunks had come when the fetch was cut off; what was under way then may have come or not.
	if n := second.count(); n > 16-6 || n+first.count() < 16 {
		t.Errorf("the runs asked for %d and %d of 16 chunks", first.count(), n)
	}
}

func TestWhatTheMapClaimsIsChecked(t *testing.T) {
	ts, data := tensors(4 * mib)
	dir := t.TempDir()
	part := fetch.PartPath(dir, ts[0].Hash)
	b := bytes.Clone(data[ts[0].Hash])
	b[mib+5] ^= 1 // the second chunk was damaged on disk
	if err := errors.Join(os.WriteFile(part, b[:3*mib], 0o600), os.WriteFile(strings.TrimSuffix(part, ".part")+".map", []byte{1, 1, 0, 1}, 0o600)); err != nil {
		t.Fatal(err)
	}
	p, sink := &peer{id: "p", data: data}, newShelf()
	if err := fetch.Fetch(t.Context(), ts, []fetch.Source{p}, fetch.Options{Dir: dir, Sink: sink}); err != nil {
		t.Fatal(err)
	}
	sink.expect(t, data)
	if p.count() != 3 {
		t.Errorf("%d chunks were asked for, 3 were missing", p.count())
	}
	// A map that cannot be this tensor's is not believed at all, and a whole partial file needs no source.
	if err := os.WriteFile(strings.TrimSuffix(part, ".part")+".map", make([]byte, 99), 0o600); err != nil {
		t.Fatal(err)
	}
	again := newShelf()
	if err := fetch.Fetch(t.Context(), ts, []fetch.Source{p}, fetch.Options{Dir: dir, Sink: again}); err != nil {
		t.Fatal(err)
	}
	b = data[ts[0].Hash]
	if err := errors.Join(os.WriteFile(part, b, 0o600), os.WriteFile(strings.TrimSuffix(part, ".part")+".map", []byte{1, 1, 1, 1}, 0o600)); err != nil {
		t.Fatal(err)
	}
	last := newShelf()
	if err := fetch.Fetch(t.Context(), ts, nil, fetch.Options{Dir: dir, Sink: last}); err != nil {
		t.Fatal(err)
	}
	last.expect(t, data)
}

// disk fails in the ways that full disks do.
type disk struct {
	packed.Disk
	free uint64
	full bool
}

func (d disk) Free(string) (uint64, error) { return d.free, nil }

func (d disk) OpenPart(path string) (packed.PartFile, error) {
	f, err := d.Disk.OpenPart(path)
	if d.full && err == nil {
		return fullFile{f}, nil
	}
	return f, err
}

type fullFile struct{ packed.PartFile }

func (fullFile) WriteAt([]byte, int64) (int, error) { return 0, syscall.ENOSPC }

func TestFullDiskEndsTheFetchAndSaysHowMuchIsMissing(t *testing.T) {
	ts, data := tensors(4 * mib)
	p := &peer{id: "p", data: data}
	err := fetch.Fetch(t.Context(), ts, []fetch.Source{p}, fetch.Options{Dir: t.TempDir(), Sink: newShelf(), FS: disk{free: 7 << 20}})
	if !errors.Is(err, packed.ErrNoSpace) || !strings.Contains(err.Error(), "1.0 MiB are missing") || p.count() != 0 {
		t.Errorf("before: %v", err)
	}
	err = fetch.Fetch(t.Context(), ts, []fetch.Source{p}, fetch.Options{Dir: t.TempDir(), Sink: newShelf(), FS: disk{free: 9 << 20, full: true}})
	if !errors.Is(err, packed.ErrNoSpace) {
		t.Errorf("during: %v", err)
	}
}

func TestSinkThatFailsEndsTheFetch(t *testing.T) {
	ts, data := tensors(mib, mib+1, 10)
	sink := newShelf()
	sink.err = errors.New("broken shelf")
	err := fetch.Fetch(t.Context(), ts, []fetch.Source{&peer{id: "p", data: data}}, fetch.Options{Dir: t.TempDir(), Sink: sink})
	if !errors.Is(err, sink.err) {
		t.Fatal(err)
	}
}

func TestNothingToFetchNeedsNoSource(t *testing.T) {
	ts, data := tensors(100)
	sink := newShelf()
	sink.got = data
	if err := fetch.Fetch(t.Context(), ts, nil, fetch.Options{Dir: t.TempDir(), Sink: sink}); err != nil {
		t.Fatal(err)
	}
}

// Whatever flaky, slow and lying sources there are beside an honest one, and however often the fetch is cut off, it ends
// with the right bytes.
func TestFetchOverHostileSourcesEndsWithTheRightBytes(t *testing.T) {
	base := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.IntRange(1, 2*mib+9), 1, 3).Draw(t, "sizes")
		ts, data := tensors(sizes...)
		want := make(map[manifest.Hash][]byte)
		for _, x := range ts {
			want[x.Hash] = data[x.Hash]
		}
		dir, err := os.MkdirTemp(base, "")
		if err != nil {
			t.Fatalf("%v", err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		sources := []fetch.Source{&peer{id: "honest", data: data}}
		for i := range rapid.IntRange(0, 4).Draw(t, "others") {
			kind := rapid.IntRange(0, 3).Draw(t, "kind")
			every := int64(rapid.IntRange(1, 4).Draw(t, "every"))
			sources = append(sources, &peer{id: fmt.Sprint(i), data: data, hangs: kind == 3, bad: func(n int64) (func([]byte) []byte, error) {
				switch {
				case n%every != 0 || kind == 0:
					return nil, nil
				case kind == 1:
					return nil, errors.New("flaky")
				}
				return flip, nil
			}})
		}
		sink := newShelf()
		o := fetch.Options{
			Dir: dir, Sink: sink, Backoff: time.Millisecond, Hedge: time.Millisecond, ChunkTimeout: 100 * time.Millisecond,
			PerSource: rapid.IntRange(1, 3).Draw(t, "per source"), Parallel: rapid.IntRange(1, 8).Draw(t, "parallel"),
		}
		for range rapid.IntRange(0, 2).Draw(t, "cuts") {
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rapid.IntRange(0, 5).Draw(t, "ms"))*time.Millisecond)
			if err := fetch.Fetch(ctx, ts, sources, o); err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("cut run: %v", err)
			}
			cancel()
		}
		if err := fetch.Fetch(context.Background(), ts, sources, o); err != nil {
			t.Fatalf("last run: %v", err)
		}
		sink.expect(t, want)
	})
}
