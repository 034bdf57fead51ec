package store

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/weft-mesh/weft/shard/store/manifest"
	"github.com/weft-mesh/weft/shard/store/packed"
)

// Options configure a store. The zero value is a usable configuration.
type Options struct {
	Logger  *slog.Logger     // nil logs nothing
	Workers int              // threads that hash and pack; 0 is GOMAXPROCS
	Budget  uint64           // bytes on disk at most; 0 is what is there and nine tenths of what is free
	FS      packed.FS        // where tensors are written; nil is the disk. For tests that run out of it
	Now     func() time.Time // nil is time.Now
}

func (o *Options) ensureDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.FS == nil {
		o.FS = packed.Disk{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

// Progress is told how far a long operation is: bytes done of bytes total. It is called from one goroutine at a time, at
// most about ten times a second and once at the end, and must return quickly. It may be nil.
type Progress func(done, total uint64)

// Store is the models of one home. Any number of goroutines may use it. Several processes may have the same home open
// (a daemon and a command): what they write is atomic, and changes of the list of entries exclude each other.
type Store struct {
	opt      Options
	dir      string        // $WEFT_HOME/models
	packed   string        // dir of packed tensors
	fetching chan struct{} // holds one token while a fetch runs
	slots    chan struct{} // one for each slab that is being packed; as many as Workers

	making   sync.Mutex // held while room is made; guards reserved
	reserved map[*reservation]struct{}

	// mu guards the fields below.
	mu        sync.Mutex
	seen      *registry                            // as view gave it last; never changed
	seenAs    os.FileInfo                          // of its file
	uses      map[manifest.Hash]*use               // models that this process has open
	models    map[*Model]struct{}                  // all open ones
	manifests map[manifest.Hash]*manifest.Manifest // loaded ones
	places    map[manifest.Hash][]place            // of each tensor hash, the tensors of loaded manifests that have it
	mapped    map[string]*mapping                  // open packed files by name
	packing   map[string]*packJob                  // running ones by file name
}

// place is a tensor of a model.
type place struct {
	model  manifest.Hash
	tensor *manifest.Tensor
}

// Open opens the store of a home, creating it if it is not there. It reads nothing but the directory.
func Open(home string, opt Options) (*Store, error) {
	opt.ensureDefaults()
	home, err := filepath.Abs(home)
	if err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	dir := filepath.Join(home, "models")
	s := &Store{
		opt: opt, dir: dir, packed: filepath.Join(dir, "packed"), slots: make(chan struct{}, opt.Workers), fetching: make(chan struct{}, 1),
		reserved:  make(map[*reservation]struct{}),
		uses:      make(map[manifest.Hash]*use),
		models:    make(map[*Model]struct{}),
		manifests: make(map[manifest.Hash]*manifest.Manifest),
		places:    make(map[manifest.Hash][]place),
		mapped:    make(map[string]*mapping),
		packing:   make(map[string]*packJob),
	}
	for _, d := range []string{s.packed, s.manifestDir(), s.PartialDir(), s.DownloadDir(), s.useDir()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("open the store of %s: %w; choose another home with WEFT_HOME", home, err)
		}
	}
	return s, nil
}

// DownloadDir is where files that are being downloaded lie, for package hub.
func (s *Store) DownloadDir() string { return filepath.Join(s.dir, "downloads") }

// PartialDir is where tensors that are being fetched lie, for package fetch.
func (s *Store) PartialDir() string { return filepath.Join(s.dir, "partial") }

func (s *Store) manifestDir() string { return filepath.Join(s.dir, "manifests") }
