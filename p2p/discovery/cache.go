package discovery

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/weft-mesh/weft/p2p/internal/durable"
)

const (
	cacheFile     = "peers.json"
	maxCacheBytes = 1 << 20
	maxCached     = 256
	maxPeerAddrs  = 16
	cacheLife     = 30 * 24 * time.Hour
)

// sighting is a member that was connected, as the cache file has it.
type sighting struct {
	info peer.AddrInfo
	seen time.Time
}

type cacheEntry struct {
	Peer  string    `json:"peer"`
	Addrs []string  `json:"addrs"`
	Seen  time.Time `json:"seen"`
}

// loadCache reads the members met before. A missing file is an empty cache;
// a file that makes no sense is an error, which costs nothing but time.
func loadCache(dir string, now time.Time) ([]sighting, error) {
	path := filepath.Join(dir, cacheFile)
	b, err := durable.Read(path, maxCacheBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out, err := decodeCache(b, now)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return out, nil
}

func decodeCache(b []byte, now time.Time) ([]sighting, error) {
	var entries []cacheEntry
	if err := json.Unmarshal(b, &entries); err != nil {
		return nil, err
	}
	if len(entries) > maxCached {
		return nil, fmt.Errorf("%d peers are more than %d", len(entries), maxCached)
	}
	var out []sighting
	for _, e := range entries {
		id, err := peer.Decode(e.Peer)
		if err != nil {
			return nil, fmt.Errorf("peer %q: %w", e.Peer, err)
		}
		s := sighting{info: peer.AddrInfo{ID: id}, seen: e.Seen}
		for _, text := range e.Addrs[:min(len(e.Addrs), maxPeerAddrs)] {
			a, err := ma.NewMultiaddr(text)
			if err != nil {
				return nil, fmt.Errorf("peer %q: %w", e.Peer, err)
			}
			s.info.Addrs = append(s.info.Addrs, a)
		}
		if now.Sub(s.seen) < cacheLife && len(s.info.Addrs) > 0 {
			out = append(out, s)
		}
	}
	return out, nil
}

// storeCache writes the most recently seen members.
func storeCache(dir string, all []sighting) error {
	b, err := encodeCache(all)
	if err != nil {
		return err
	}
	return durable.Write(filepath.Join(dir, cacheFile), b)
}

func encodeCache(all []sighting) ([]byte, error) {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b sighting) int {
		if c := b.seen.Compare(a.seen); c != 0 {
			return c
		}
		return cmp.Compare(a.info.ID, b.info.ID)
	})
	entries := []cacheEntry{}
	for _, s := range all[:min(len(all), maxCached)] {
		e := cacheEntry{Peer: s.info.ID.String(), Seen: s.seen.UTC()}
		for _, a := range s.info.Addrs[:min(len(s.info.Addrs), maxPeerAddrs)] {
			e.Addrs = append(e.Addrs, a.String())
		}
		entries = append(entries, e)
	}
	b, err := json.MarshalIndent(entries, "", " ")
	return append(b, '\n'), err
}
