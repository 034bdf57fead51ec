package fetch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weft-mesh/weft/shard/store/manifest"
	"github.com/weft-mesh/weft/shard/store/packed"
)

// run is one running Fetch.
type run struct {
	opt     *Options
	packing chan struct{} // one for each large tensor that the sink is packing
	storing chan struct{} // one for each small one: they wait for the disk, not for the processor

	// mu guards everything below, the jobs' and peers' fields too. cond is signalled when any of it changes.
	mu       sync.Mutex
	cond     *sync.Cond
	jobs     []*job // in the order in which they are fetched
	peers    []*peer
	inFlight int
	left     int    // jobs that the sink does not have yet
	done     uint64 // bytes
	total    uint64
	arrived  uint64 // bytes of this run, for the rate
	err      error  // what ended the run
}

// job is a tensor to fetch.
type job struct {
	part    *part
	have    []bool
	missing int             // chunks that are not written
	queue   []int           // chunks that nobody was asked for, the next one last
	flights map[int]*flight // chunks that somebody was asked for
}

// flight is a chunk that was asked for and has not come.
type flight struct {
	since time.Time // of the last asking
	peers []*peer
}

// peer is a source and how it behaves.
type peer struct {
	source   Source
	busy     int       // requests
	failures int       // in a row
	until    time.Time // no requests before
	aside    error     // why it is used no more
	last     bool      // it is asked only for what no other has
	recycle  func([]byte)
}

func newRun(o *Options, sources []Source) *run {
	r := &run{opt: o, packing: make(chan struct{}, 2), storing: make(chan struct{}, 16)}
	r.cond = sync.NewCond(&r.mu)
	for _, s := range sources {
		l, ok := s.(LastResort)
		p := &peer{source: s, last: ok && l.LastResort()}
		if rc, ok := s.(Recycler); ok {
			p.recycle = rc.Recycle
		}
		r.peers = append(r.peers, p)
	}
	return r
}

// plan lists what is to be fetched and takes up what earlier runs left.
func (r *run) plan(ctx context.Context, tensors []*manifest.Tensor) error {
	seen := make(map[manifest.Hash]bool)
	var need, largest, second uint64 // two tensors are packed at a time, each beside its partial file
	for _, t := range tensors {
		if seen[t.Hash] {
			continue
		}
		seen[t.Hash] = true
		r.total += t.Size
		if r.opt.Sink.Has(t) {
			r.done += t.Size
			continue
		}
		need += uint64(packed.SpecOf(t).Bytes())
		largest, second = max(largest, t.Size), max(second, min(largest, t.Size))
		j := &job{part: newPart(r.opt.FS, r.opt.Dir, t), flights: make(map[int]*flight)}
		r.jobs = append(r.jobs, j)
		var err error
		if j.have, err = j.part.resume(ctx); err != nil {
			return err
		}
		for i := range slices.Backward(j.have) {
			if j.have[i] {
				r.done += uint64(t.ChunkSize(i))
				continue
			}
			j.queue = append(j.queue, i)
		}
		j.missing = len(j.queue)
		if j.missing == len(j.have) {
			continue
		}
		need -= min(need, t.Size) // its partial file takes the room already
	}
	r.left = len(r.jobs)
	if r.left == 0 {
		return nil
	}
	return packed.CheckSpace(r.opt.FS, r.opt.Dir, need+largest+second)
}

// run fetches until every tensor is in the sink, an error, or the end of ctx.
func (r *run) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { r.fail(context.Cause(ctx)) })
	defer stop()
	var wg, ticking sync.WaitGroup
	end := make(chan struct{})
	ticking.Go(func() { r.tick(end) })
	r.mu.Lock()
	r.checkServed()
	for _, j := range r.jobs {
		if j.missing == 0 {
			wg.Go(func() { r.deliver(ctx, j) })
		}
	}
	r.mu.Unlock()
	for _, p := range r.peers {
		for range r.opt.PerSource {
			wg.Go(func() { r.work(ctx, p, &wg) })
		}
	}
	r.await()
	cancel(errEnded) // requests that are still under way have lost their purpose
	wg.Wait()
	close(end)
	ticking.Wait()
	r.close()
	return r.err
}

var errEnded = errors.New("fetch has ended")

// await blocks until there is nothing left to do, or an error.
func (r *run) await() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.left > 0 && r.err == nil {
		r.cond.Wait()
	}
}

// fail ends the run with its first error.
func (r *run) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failLocked(err)
}

func (r *run) failLocked(err error) {
	if r.err == nil && r.left > 0 {
		r.err = err
	}
	r.cond.Broadcast()
}

func (r *run) close() {
	for _, j := range r.jobs {
		j.part.close()
	}
}

// work asks one source for chunk after chunk.
func (r *run) work(ctx context.Context, p *peer, wg *sync.WaitGroup) {
	for {
		j, index, ok := r.next(p)
		if !ok {
			return
		}
		t := j.part.tensor
		asking, cancel := context.WithTimeout(ctx, r.opt.ChunkTimeout)
		b, err := p.source.Chunk(asking, t.Hash, index)
		cancel()
		if err == nil {
			err = t.Check(index, b)
		}
		whole := r.arrive(ctx, p, j, index, b, err)
		if p.recycle != nil && b != nil {
			p.recycle(b)
		}
		if whole {
			wg.Go(func() { r.deliver(ctx, j) })
		}
	}
}

// next waits for a chunk that the peer may be asked for. It reports false when there will be none.
func (r *run) next(p *peer) (*job, int, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		if r.err != nil || r.left == 0 || p.aside != nil {
			return nil, 0, false
		}
		if now := time.Now(); r.inFlight < r.opt.Parallel && !now.Before(p.until) {
			if j, index, ok := r.pick(p, now); ok {
				if err := j.part.open(); err != nil {
					r.failLocked(err)
					return nil, 0, false
				}
				r.inFlight++
				p.busy++
				return j, index, true
			}
		}
		r.cond.Wait()
	}
}

// pick takes the first chunk that nobody was asked for, or else one that somebody else is slow with.
func (r *run) pick(p *peer, now time.Time) (*job, int, bool) {
	for _, j := range r.jobs {
		if n := len(j.queue); n > 0 && r.may(p, j) {
			index := j.queue[n-1]
			j.queue = j.queue[:n-1]
			j.flights[index] = &flight{since: now, peers: []*peer{p}}
			return j, index, true
		}
	}
	for _, j := range r.jobs {
		for index, f := range j.flights {
			if now.Sub(f.since) >= r.opt.Hedge && !slices.Contains(f.peers, p) && r.may(p, j) {
				f.since, f.peers = now, append(f.peers, p)
				return j, index, true
			}
		}
	}
	return nil, 0, false
}

// may says whether a peer is to be asked for a tensor: it has it, and it is no last resort or nobody else has it.
func (r *run) may(p *peer, j *job) bool {
	t := j.part.tensor.Hash
	if !p.source.Has(t) {
		return false
	}
	return !p.last || !slices.ContainsFunc(r.peers, func(o *peer) bool { return !o.last && o.aside == nil && o.source.Has(t) })
}

// arrive takes the answer of a peer. It reports true if the tensor is whole now.
func (r *run) arrive(ctx context.Context, p *peer, j *job, index int, b []byte, err error) bool {
	if err == nil {
		p.ok(r)
		return r.keep(j, index, b)
	}
	if r.refuse(ctx, p, j, index, err) {
		r.opt.Logger.Warn("source is set aside", "source", p.source.ID(), "error", err)
		r.opt.SetAside(p.source.ID(), err)
	}
	return false
}

// refuse puts a chunk that did not come back into the queue. It reports true if that sets the peer aside.
func (r *run) refuse(ctx context.Context, p *peer, j *job, index int, err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.land(p)
	if f := j.flights[index]; f != nil {
		if f.peers = slices.DeleteFunc(f.peers, func(o *peer) bool { return o == p }); len(f.peers) == 0 {
			delete(j.flights, index)
			j.queue = append(j.queue, index)
		}
	}
	if ctx.Err() != nil || p.aside != nil {
		return false // the request failed because the fetch ends, or it is one of many at a source already set aside
	}
	r.blame(p, err)
	return p.aside != nil
}

// ok notes that a request of the peer went well.
func (p *peer) ok(r *run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.land(p)
	p.failures = 0
}

// land ends a request.
func (r *run) land(p *peer) {
	r.inFlight--
	p.busy--
	r.cond.Broadcast()
}

// keep writes a checked chunk, unless another source was quicker.
func (r *run) keep(j *job, index int, b []byte) (whole bool) {
	r.mu.Lock()
	if j.have[index] || r.err != nil {
		r.mu.Unlock()
		return false
	}
	j.have[index] = true
	delete(j.flights, index)
	r.mu.Unlock()

	err := j.part.write(index, b)

	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.failLocked(err)
		return false
	}
	r.done += uint64(len(b))
	r.arrived += uint64(len(b))
	j.missing--
	return j.missing == 0
}

// blame notes a peer's failure: wrong bytes are not forgiven, others some times.
func (r *run) blame(p *peer, err error) {
	now := time.Now()
	wrong := errors.Is(err, manifest.ErrWrongChunk)
	if !wrong && now.Before(p.until) {
		return // one outage fails all requests that are under way; it counts once
	}
	p.failures++
	p.until = now.Add(r.opt.Backoff << min(p.failures-1, 6))
	if !wrong && p.failures < r.opt.Failures {
		r.opt.Logger.Debug("chunk request failed", "source", p.source.ID(), "error", err)
		return
	}
	p.aside = err
	r.checkServed()
}

// checkServed fails the run if a tensor has no source any more.
func (r *run) checkServed() {
	for _, j := range r.jobs {
		if j.missing == 0 {
			continue
		}
		t := j.part.tensor
		if !slices.ContainsFunc(r.peers, func(p *peer) bool { return p.aside == nil && p.source.Has(t.Hash) }) {
			r.failLocked(fmt.Errorf("tensor %s: %w%s", t.Name, ErrNoSource, r.reasons()))
			return
		}
	}
}

// reasons lists the sources that were set aside.
func (r *run) reasons() string {
	var out []string
	for _, p := range r.peers {
		if p.aside != nil {
			out = append(out, fmt.Sprintf("%s: %v", p.source.ID(), p.aside))
		}
	}
	switch {
	case len(out) > 0:
		return " (" + strings.Join(out, "; ") + ")"
	case len(r.peers) == 0:
		return " (there is no source at all)"
	}
	return " (the sources have other tensors)"
}

// smallTensor is what costs more to make safe on disk than to pack. Sixteen of them take less room than two large ones.
const smallTensor = 1 << 20

// deliver gives a whole tensor to the sink.
func (r *run) deliver(ctx context.Context, j *job) {
	slots := r.packing
	if j.part.tensor.Size <= smallTensor {
		slots = r.storing
	}
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		return
	}
	defer func() { <-slots }()
	if err := r.opt.Sink.Put(ctx, j.part.tensor, j.part.data); err != nil {
		r.fail(err)
		return
	}
	j.part.remove()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left--
	r.cond.Broadcast()
}
