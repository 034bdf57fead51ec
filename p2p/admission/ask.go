package admission

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

const (
	maxDoors = 32 // members that a machine knocks at
	maxCodes = 3  // shown one after another, when the one before was tried in vain
	doorTime = 5 * time.Second
)

// Reasons why asking ended without a mesh.
var (
	ErrNoMeshFound = errors.New("no mesh was found")
	ErrNotLetIn    = errors.New("nobody has let this machine in")
)

// Nearby is a mesh that has answered. Its name is what a member of it says;
// its id is proved.
type Nearby struct {
	ID   ID
	Name string
	// Doors counts the members that this machine waits at.
	Doors int
}

// Waiting is what a machine shows while it waits.
type Waiting struct {
	Code    Code
	Expires time.Time
	Meshes  []Nearby // by name; the code may be typed on any machine of any of them
	// Note says what became of the code before, empty for the first.
	Note string
}

// AskOptions say how a machine asks to be let in.
type AskOptions struct {
	// Candidates may be members; more may come while the machine waits. It is
	// closed when there will be no more.
	Candidates <-chan peer.AddrInfo
	// Look is how long to look for a mesh before ErrNoMeshFound.
	Look time.Duration
	// Want is the name of the one mesh to ask, or the beginning of its id;
	// empty means any.
	Want string
	// Name and Versions are told to the mesh.
	Name     string
	Versions Versions
	// Life is how long a code is good for; 0 means CodeLife.
	Life time.Duration
	// Show is called when there is something new to show; never nil.
	Show func(Waiting)
}

// Ask lets this node ask for membership by a code that it shows: it knocks at
// the members among the candidates and waits until a person types the code
// on a machine of their mesh. It blocks until this node is a member, nobody
// was found, the code's time is over, or codes were tried in vain. It returns
// a member to start with.
func Ask(ctx context.Context, net Network, mesh *Mesh, o AskOptions) (peer.AddrInfo, error) {
	if mesh.Joined() {
		return peer.AddrInfo{}, fmt.Errorf("ask to be let in: %w", ErrAlreadyMember)
	}
	o.Name = CleanName(o.Name)
	if o.Life <= 0 {
		o.Life = CodeLife
	}
	a := &asker{net: net, mesh: mesh, o: o, events: make(chan doorEvent), known: map[peer.ID]peer.AddrInfo{}}
	info, err := a.run(ctx)
	if err != nil {
		for id := range a.known {
			_ = net.ClosePeer(id)
		}
		return peer.AddrInfo{}, err
	}
	// As a member, to all that it has waited at.
	net.Refresh()
	return info, net.Connect(ctx, info)
}

// asker is a machine that asks. run owns all of it but what a door's
// goroutine is given.
type asker struct {
	net    Network
	mesh   *Mesh
	o      AskOptions
	events chan doorEvent
	known  map[peer.ID]peer.AddrInfo

	round   *round
	meshes  map[ID]*Nearby
	others  map[ID]string // meshes that were not asked for
	pending int           // doors that have not answered
	refused error
}

// round is the life of one code.
type round struct {
	code   Code
	nonce  []byte
	cancel context.CancelFunc
	wg     sync.WaitGroup
	once   sync.Once // the one attempt
	begun  atomic.Bool
}

// doorEvent is what a door's goroutine reports. Exactly one of the first
// three is meant.
type doorEvent struct {
	met     *Nearby // an answer; Doors is 0 for a mesh that was not asked for
	failed  error   // no answer, or a refusal
	tried   bool    // the code was tried, with err
	err     error
	at      peer.AddrInfo
	refusal bool
}

func (a *asker) run(ctx context.Context) (peer.AddrInfo, error) {
	note := ""
	for range maxCodes {
		info, err := a.oneCode(ctx, note)
		if err == nil || ctx.Err() != nil || !errors.Is(err, errSpent) {
			return info, err
		}
		note = err.Error()
	}
	return peer.AddrInfo{}, fmt.Errorf("%w: %d codes were tried in vain: %s", ErrNotLetIn, maxCodes, note)
}

// errSpent is wrapped by errors after which another code may be shown.
var errSpent = errors.New("the code was tried in vain")

// oneCode shows one code until it lets this machine in, is spent or expires.
func (a *asker) oneCode(ctx context.Context, note string) (peer.AddrInfo, error) {
	ctx, cancel := context.WithCancel(ctx)
	a.round = &round{code: NewCode(), nonce: nonce(), cancel: cancel}
	a.meshes, a.others, a.pending, a.refused = map[ID]*Nearby{}, map[ID]string{}, 0, nil
	defer a.round.wg.Wait()
	defer cancel()
	for _, info := range a.known {
		a.knock(ctx, info)
	}
	look := time.NewTimer(a.o.Look)
	defer look.Stop()
	expiry := time.NewTimer(a.o.Life)
	defer expiry.Stop()
	looked := false
	expires := time.Now().Add(a.o.Life)
	candidates := a.o.Candidates
	for {
		select {
		case <-ctx.Done():
			return peer.AddrInfo{}, ctx.Err()
		case info, ok := <-candidates:
			if !ok {
				candidates, looked = nil, true // there will be no others
			} else if _, known := a.known[info.ID]; !known && len(a.known) < maxDoors && info.ID != a.net.ID() {
				a.known[info.ID] = info
				a.knock(ctx, info)
			}
		case e := <-a.events:
			if e.tried {
				return e.at, e.err
			}
			if a.note(e) {
				if len(a.meshes) == 1 && a.meshes[e.met.ID].Doors == 1 { // the first: the time begins
					expires = time.Now().Add(a.o.Life)
					expiry.Reset(a.o.Life)
				}
				a.o.Show(Waiting{Code: a.round.code, Expires: expires, Meshes: a.nearby(), Note: note})
			}
		case <-look.C:
			looked = true
		case <-expiry.C:
			if a.round.begun.Load() {
				continue // an attempt is under way and ends within its own time
			}
			if len(a.meshes) > 0 {
				return peer.AddrInfo{}, fmt.Errorf("%w: its code has expired; `weft up` shows a new one", ErrNotLetIn)
			}
			looked = true
		}
		if looked && len(a.meshes) == 0 && a.pending == 0 && len(candidates) == 0 {
			return peer.AddrInfo{}, a.nothing()
		}
	}
}

// note takes in what a door has said and tells whether a mesh was met.
func (a *asker) note(e doorEvent) bool {
	a.pending--
	switch {
	case e.failed != nil && e.refusal:
		a.refused = e.failed
	case e.met != nil && e.met.Doors == 0:
		a.others[e.met.ID] = e.met.Name
	case e.met != nil:
		m := a.meshes[e.met.ID]
		if m == nil {
			m = &Nearby{ID: e.met.ID, Name: e.met.Name}
			a.meshes[e.met.ID] = m
		}
		m.Doors++
		return true
	}
	return false
}

// nothing says why there is no mesh to wait for.
func (a *asker) nothing() error {
	switch {
	case a.refused != nil:
		return a.refused
	case a.o.Want != "" && len(a.others) > 0:
		var names []string
		for id, name := range a.others {
			names = append(names, name+" ("+id.Short()+")")
		}
		slices.Sort(names)
		return fmt.Errorf("%w: no mesh is called %s or has an id that begins so; seen were %s", ErrNoMeshFound, a.o.Want, strings.Join(names, ", "))
	case a.o.Want != "":
		return fmt.Errorf("%w: %s", ErrNoMeshFound, a.o.Want)
	}
	return ErrNoMeshFound
}

func (a *asker) nearby() []Nearby {
	var out []Nearby
	for _, m := range a.meshes {
		out = append(out, *m)
	}
	slices.SortFunc(out, func(x, y Nearby) int {
		return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.ID.String(), y.ID.String()))
	})
	return out
}

// wanted says whether a mesh is one to ask.
func (o *AskOptions) wanted(id ID, name string) bool {
	return o.Want == "" || name == o.Want || len(o.Want) >= 4 && strings.HasPrefix(id.String(), strings.ToLower(o.Want))
}

// knock begins to wait at a door.
func (a *asker) knock(ctx context.Context, info peer.AddrInfo) {
	a.pending++
	r := a.round
	r.wg.Go(func() {
		report := func(e doorEvent) {
			e.at = info
			select {
			case a.events <- e:
			case <-ctx.Done():
			}
		}
		d, err := a.greet(ctx, r, info)
		if err != nil {
			var refusal refusedError
			report(doorEvent{failed: err, refusal: errors.As(err, &refusal)})
			return
		}
		defer func() { _ = d.st.Reset() }()
		stop := context.AfterFunc(ctx, func() { _ = d.st.Reset() })
		defer stop()
		if !a.o.wanted(d.mesh, d.name) {
			report(doorEvent{met: &Nearby{ID: d.mesh, Name: d.name}})
			return
		}
		report(doorEvent{met: &Nearby{ID: d.mesh, Name: d.name, Doors: 1}})
		a.wait(r, d, report)
	})
}

// refusedError is a member's answer that it lets nobody wait.
type refusedError struct{ error }

func (e refusedError) Unwrap() error { return e.error }

// door is a member that this machine waits at.
type door struct {
	st   network.Stream
	r    *bufio.Reader
	mesh ID
	name string
}

// greet connects to a member and knocks.
func (a *asker) greet(ctx context.Context, r *round, info peer.AddrInfo) (*door, error) {
	ctx, cancel := context.WithTimeout(ctx, doorTime)
	defer cancel()
	if err := a.net.Dial(ctx, info); err != nil {
		return nil, err
	}
	a.net.Tolerate(info.ID, a.o.Life+exchangeTime)
	st, err := a.net.OpenStranger(ctx, info.ID, KnockProtocol)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = st.Reset() })
	defer stop()
	d := &door{st: st, r: bufio.NewReaderSize(st, 512)}
	err = send(st, &weftv1.Knock{
		Slot: r.code.Slot(), Name: a.o.Name, Nonce: r.nonce, WireVersion: a.o.Versions.Wire, ContractVersion: a.o.Versions.Contract,
	})
	var p weftv1.Porch
	if err == nil {
		err = receive(d.r, &p)
	}
	if err == nil {
		if err = codeError(p.GetStatus(), p.GetReason()); err != nil {
			err = refusedError{err}
		}
	}
	if err == nil {
		err = d.identify(info.ID, &p, a.mesh.cfg.Now())
	}
	if err != nil {
		_ = st.Reset()
		return nil, err
	}
	return d, nil
}

// identify checks which mesh a member speaks for.
func (d *door) identify(id peer.ID, p *weftv1.Porch, now time.Time) error {
	if len(p.GetMesh()) != len(d.mesh) {
		return fmt.Errorf("%w: mesh id of %d bytes", ErrRogueMesh, len(p.GetMesh()))
	}
	copy(d.mesh[:], p.GetMesh())
	d.name = CleanName(p.GetMeshName())
	if _, err := verifyMember(d.mesh, id, p.GetCredential(), now, nil); err != nil {
		if errors.Is(err, ErrNotYetValid) || errors.Is(err, ErrExpired) {
			return refusedError{fmt.Errorf("mesh %s (%s): %w", d.name, d.mesh.Short(), err)} // most likely a wrong clock
		}
		return fmt.Errorf("%w: %w", ErrRogueMesh, err)
	}
	return nil
}

// wait takes part in the one attempt at the round's code, if it comes here.
func (a *asker) wait(r *round, d *door, report func(doorEvent)) {
	_ = d.st.SetDeadline(time.Now().Add(a.o.Life + exchangeTime))
	var attempt weftv1.CodeAttempt
	if err := receive(d.r, &attempt); err != nil {
		return // the member has gone, or the round is over
	}
	r.once.Do(func() {
		r.begun.Store(true)
		_ = d.st.SetDeadline(time.Now().Add(exchangeTime))
		t := talk{d.st, d.r, nil}
		err := enterByCode(t, r.code, d.mesh, &attempt, a.net.ID(), a.o.Name, r.nonce, a.mesh.cfg.Now(), func(m *weftv1.Admission) error {
			return a.mesh.Adopt(d.mesh, m.GetMeshName(), m.GetCredential())
		})
		t.end()
		if err != nil {
			err = fmt.Errorf("%w by a machine of %s (%s): %w", errSpent, d.name, d.mesh.Short(), err)
		}
		report(doorEvent{tried: true, err: err})
	})
}
