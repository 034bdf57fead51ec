package devices

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
	"github.com/weft-mesh/weft/node/speed"
)

// state is what has become of a card.
type state uint8

const (
	waiting      state = iota // to be opened
	used                      // stages may lie on it
	aside                     // not wanted
	refusedState              // it did not pass
	lost                      // it was used until it failed
)

// Card is one device of the machine. The Set guards its state.
type Card struct {
	ID      string // "opencl:0"
	Info    driver.Info
	Speed   speed.Speed   // of a card that is or was used
	Named   bool          // somebody asked for this one
	Took    time.Duration // to open, check and measure it
	backend Backend
	device  *guard

	// turn is held around every use of the device.
	turn sync.Mutex

	twin   bool // a card before it is the same one
	state  state
	reason string // why it is not used

	free, total int64     // as the driver told last
	looked      time.Time // when
	held        int64     // what stages have on it
	short       int64     // with how much it ran out of memory while it computed, less an eighth; 0: it never did
	lostAt      time.Time // when it was lost last
	losses      int
}

// Status is what is known of a card at one moment.
type Status struct {
	ID, Name, Vendor, Driver, Version string
	Bus                               string
	Used                              bool
	Twin                              bool   // it is another driver's view of a card that stands before it
	Reason                            string // why not
	Shared                            bool   // its memory is the processor's
	CPU                               bool   // it is a processor behind a library for graphics
	Total, Free                       int64  // bytes, as the driver tells; 0: not told
	Room                              int64  // bytes that stages may take in all
	Held                              int64  // bytes that they have
	Speed                             speed.Speed
	Named                             bool          // somebody asked for this one
	Took                              time.Duration // to open, check and measure it; 0: it was not
}

// Margin is what stages leave free on a card: a desktop, the driver's own, and what
// other programs take suddenly.
func Margin(total int64) int64 { return max(256<<20, total/20) }

// lookEvery is how often a driver is asked for free memory.
const lookEvery = 2 * time.Second

// lookWait is how long an answer about free memory is waited for: a driver may hang,
// and people who ask for a node's state are not to hang with it.
const lookWait = time.Second

// due says that the driver may be asked again; Set.mu is held.
func (c *Card) due() bool { return c.state == used && time.Since(c.looked) >= lookEvery }

// look asks for a card's memory when nobody computes on it, and waits a moment for
// the answer. A driver that does not give one is lost like one that does not
// compute.
func (s *Set) look(card int) {
	s.mu.Lock()
	c := s.cards[card]
	due := c.due() && !s.closed && c.turn.TryLock()
	if due {
		s.looks.Add(1)
	}
	s.mu.Unlock()
	if !due {
		return
	}
	answered := make(chan struct{})
	go func() {
		defer s.looks.Done()
		defer close(answered)
		defer c.turn.Unlock()
		s.ask(card)
	}()
	timer := time.NewTimer(lookWait)
	defer timer.Stop()
	select {
	case <-answered:
	case <-timer.C:
	}
}

// ask asks a driver for its card's memory; the card's lock is held.
func (s *Set) ask(card int) {
	s.mu.Lock()
	c := s.cards[card]
	d := c.device
	s.mu.Unlock()
	if d == nil {
		return
	}
	free, total, err := d.MemoryInfo()
	if errors.Is(err, driver.ErrLost) {
		s.Lose(card, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.keep(free, total, err)
}

// keep notes what the driver told.
func (c *Card) keep(free, total uint64, err error) {
	c.looked = time.Now()
	if err != nil {
		total = c.Info.Memory
		free = total - min(total, uint64(max(c.held, 0)))
	}
	c.free, c.total = clamp(free), clamp(total)
}

// LookNow asks for a card's memory as others do between uses of it, if that was not
// done of late. It is for who holds the card's lock: a card that is busy all the time
// would not be looked at otherwise.
func (s *Set) LookNow(card int) {
	s.mu.Lock()
	c := s.cards[card]
	due := c.due()
	s.mu.Unlock()
	if !due {
		return
	}
	s.ask(card)
}

func clamp(n uint64) int64 { return int64(min(n, 1<<62)) }

// room is what stages may take in all: what is free beside a margin, and what they
// have. Others may take memory at any time, so it moves.
func (s *Set) room(c *Card) int64 {
	if c.state != used {
		return 0
	}
	room := max(0, min(c.total, c.free+c.held)-Margin(c.total))
	if s.options.Memory > 0 {
		room = min(room, s.options.Memory)
	}
	if c.short > 0 {
		room = min(room, c.short)
	}
	return room
}

// Cards are the states of all cards.
func (s *Set) Cards() []Status {
	if s == nil {
		return nil
	}
	for i := range s.cards {
		s.look(i)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Status
	for _, c := range s.cards {
		out = append(out, Status{
			ID: c.ID, Name: c.Info.Name, Vendor: c.Info.Vendor, Driver: c.Info.DriverName, Version: c.Info.DriverVersion, Bus: c.Info.Bus,
			Used: c.state == used, Twin: c.twin, Reason: c.reason, Shared: c.Info.Shared, CPU: c.Info.CPU,
			Total: max(c.total, clamp(c.Info.Memory)), Free: c.free, Room: s.room(c), Held: c.held, Speed: c.Speed, Named: c.Named, Took: c.Took,
		})
	}
	return out
}

// Used lists the indexes, in Cards, of those that stages may lie on.
func (s *Set) Used() []int {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []int
	for i, c := range s.cards {
		if c.state == used {
			out = append(out, i)
		}
	}
	return out
}

// Absent says why a library knows no devices, by its name.
func (s *Set) Absent() map[string]error {
	if s == nil {
		return nil
	}
	return s.absent
}

// Room is what stages may take of a card's memory in all.
func (s *Set) Room(card int) int64 {
	if s == nil || card < 0 || card >= len(s.cards) {
		return 0
	}
	s.look(card)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.room(s.cards[card])
}

// Device gives a card's device and the lock to hold around its use; false when it is
// not used (any more).
func (s *Set) Device(card int) (d kernels.Device, turn sync.Locker, ok bool) {
	if s == nil || card < 0 || card >= len(s.cards) {
		return nil, nil, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.cards[card]
	if c.state != used {
		return nil, nil, false
	}
	return c.device, &c.turn, true
}

// Hold counts bytes that a stage has taken on a card, or given back.
func (s *Set) Hold(card int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.cards[card]
	c.held = max(0, c.held+bytes)
	c.looked = time.Time{}
}

// Lose notes that a device has failed: no stage is put on it any more. It is for
// errors of the device's waits and allocations; one that only lacks memory is not
// lost by an allocation.
func (s *Set) Lose(card int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.cards[card]
	if c.state != used {
		return
	}
	c.state, c.reason = lost, "it failed while it computed: "+brief(err)
	c.lostAt = time.Now()
	if errors.Is(err, driver.ErrNoMemory) {
		c.short = c.held - c.held/8
	} else {
		c.losses++
	}
	s.log.Error("device is lost", "device", c.ID, "name", c.Info.Name, "error", err)
}

// Bounds of opening lost devices again.
const (
	mostLosses = 3
	reviveWait = 5 * time.Second // after the first loss; four times as long after each further one
)

// Revive opens lost devices again that nobody uses any more: a driver may have been
// reset, or memory was short. One that was lost a few times stays so, and one whose
// driver hangs. It blocks while a device is opened, and says whether one can be used
// again.
func (s *Set) Revive(ctx context.Context) bool {
	if s == nil {
		return false
	}
	back := false
	for _, c := range s.revivable(time.Now()) {
		reason := c.reason
		c.turn.Lock() // of a look that is under way
		err := c.device.Close()
		c.turn.Unlock()
		if err == nil {
			err = s.open(ctx, c)
		}
		s.mu.Lock()
		switch {
		case err == nil && c.state == used:
			back = true
		case err == nil:
			err = errors.New(c.reason)
			fallthrough
		default:
			c.state, c.reason, c.device = aside, reason+"; it cannot be opened again: "+brief(err), nil
		}
		s.mu.Unlock()
	}
	return back
}

// revivable takes the devices that may be opened again.
func (s *Set) revivable(now time.Time) []*Card {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*Card
	for _, c := range s.cards {
		wait := cmp.Or(s.options.Rest, reviveWait)
		for range c.losses - 1 {
			wait *= 4
		}
		if c.state == lost && c.held == 0 && !c.device.Hung() && c.losses <= mostLosses && now.Sub(c.lostAt) >= wait {
			c.state = waiting
			out = append(out, c)
		}
	}
	return out
}

// Gone says that a card's driver does not come back: nothing may be given back on
// it.
func (s *Set) Gone(card int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.cards[card]
	return c.device != nil && c.device.Hung()
}

// Close closes the devices. The stages on them are closed by then.
func (s *Set) Close() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.looks.Wait()
	var errs []error
	for _, c := range s.cards {
		if c.device != nil {
			errs = append(errs, c.device.Close())
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.cards {
		if c.state == used {
			c.state, c.reason = aside, "it is closed"
		}
	}
	return errors.Join(errs...)
}
