package devices

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
	"github.com/weft-mesh/weft/node/speed"
)

// What Options.Want may be beside a list of devices.
const (
	Auto = "auto" // every graphics processor that keeps the contract
	CPU  = "cpu"  // none: the processor alone
	GPU  = "gpu"  // as Auto, but without one the machine is of no use
)

// Options say which devices to open.
type Options struct {
	// Want is Auto, CPU, GPU or a list of devices by "opencl:0" or a part of their
	// name or driver, with commas between. A library's processor (PoCL) is used only
	// when the list names it.
	Want     string
	Memory   int64  // bytes that stages may take on each device; 0: what is free but a margin
	Home     string // state directory: keeps what was found out
	Version  string // of the build
	Backends []Backend
	Unseen   bool // the system shows no graphics processor: Auto asks no driver, whose libraries take memory
	Again    bool // check and measure devices whatever is kept
	All      bool // that not one can be used is no error
	Log      *slog.Logger
	// Patience is how long a wait for a device may take, by how many came before and
	// the longest of those; nil: minutes.
	Patience func(waits int, longest time.Duration) time.Duration
	// Rest is how long a lost device is left alone the first time; 0: seconds.
	Rest time.Duration
	// Tell hears what is being done; may be nil.
	Tell func(text string)
}

// Set is the devices of this machine. Its methods may be called from anywhere.
type Set struct {
	log *slog.Logger
	// absent says why a library knows no device, by backend.
	absent map[string]error
	// options are what the set was opened with.
	options Options
	kept    *verdicts

	mu     sync.Mutex // guards the cards' states and closed
	cards  []*Card
	closed bool
	looks  sync.WaitGroup // questions for memory that are under way
}

// Parse checks what a user wants; the list is nil for Auto, CPU and GPU.
func Parse(want string) (list []string, err error) {
	want = strings.ToLower(strings.TrimSpace(want))
	switch want {
	case "", Auto, CPU, GPU:
		return nil, nil
	}
	for part := range strings.SplitSeq(want, ",") {
		part = strings.TrimSpace(part)
		if part == "" || part == Auto || part == GPU {
			return nil, fmt.Errorf("%q is no list of devices: give auto, cpu, gpu, or devices as in opencl:0,opencl:1 or a part of their names", want)
		}
		if part != CPU {
			list = append(list, part)
		}
	}
	return list, nil
}

// Open finds the devices and opens those that are wanted. It blocks while they are
// checked and measured the first time, for some seconds each. A device that is
// refused is listed with the reason. The error is about what was wanted by name and
// is not there, or of ctx.
func Open(ctx context.Context, o Options) (*Set, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Tell == nil {
		o.Tell = func(string) {}
	}
	s := &Set{log: o.Log, absent: map[string]error{}, options: o}
	list, err := Parse(o.Want)
	if err != nil {
		return nil, err
	}
	want := strings.ToLower(strings.TrimSpace(o.Want))
	if want == CPU || list == nil && want != "" && want != Auto && want != GPU {
		return s, nil
	}
	if o.Unseen && (want == "" || want == Auto) {
		for _, b := range o.Backends {
			s.absent[b.Name()] = fmt.Errorf("%w was asked: the system shows no graphics processor", driver.ErrAbsent)
		}
		return s, nil
	}
	s.find(o.Backends)
	if err := s.choose(list); err != nil {
		return nil, err
	}
	s.kept = readVerdicts(o.Home)
	for _, c := range s.cards {
		if c.state != waiting {
			continue
		}
		if err := s.open(ctx, c); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	if used := s.Used(); len(used) == 0 && !o.All && (want == GPU || list != nil) {
		return nil, errors.Join(s.none(want), s.Close())
	}
	return s, nil
}

// none says why not a single device can be used, though some are wanted.
func (s *Set) none(want string) error {
	var why []string
	for _, c := range s.cards {
		why = append(why, fmt.Sprintf("%s (%s): %s", c.ID, c.Info.Name, c.reason))
	}
	for _, err := range s.absent {
		why = append(why, err.Error())
	}
	slices.Sort(why)
	return fmt.Errorf("--device %s: no such device can be used: %s", want, strings.Join(why, "; "))
}

// find lists what the backends know.
func (s *Set) find(backends []Backend) {
	taken := map[string]bool{}
	for _, b := range backends {
		infos, err := b.Devices()
		if err != nil {
			s.absent[b.Name()] = err
			if !errors.Is(err, driver.ErrAbsent) {
				s.log.Warn("devices cannot be listed", "backend", b.Name(), "error", err)
			}
			continue
		}
		for _, i := range infos {
			c := &Card{ID: b.Name() + ":" + strconv.Itoa(i.Index), Info: i, backend: b}
			if i.Bus != "" && taken[i.Bus] {
				c.twin, c.state, c.reason = true, aside, "another driver has the same card"
			} else if i.Bus != "" {
				taken[i.Bus] = true
			}
			s.cards = append(s.cards, c)
		}
	}
}

// choose marks the devices that are to be opened.
func (s *Set) choose(list []string) error {
	named := map[string]bool{}
	for _, c := range s.cards {
		hit := false
		for _, name := range list {
			if c.is(name) {
				named[name], hit = true, true
			}
		}
		switch {
		case list != nil && hit:
			c.state, c.Named = waiting, true
		case list != nil && !c.twin:
			c.state, c.reason = aside, "not named by --device"
		case c.twin:
		case c.Info.CPU:
			c.state, c.reason = aside, "it is the processor, seen through a graphics library; --device "+c.ID+" uses it all the same"
		default:
			c.state = waiting
		}
	}
	for _, name := range list {
		if !named[name] {
			return fmt.Errorf("--device: no device is %q; %s", name, s.known())
		}
	}
	return nil
}

// known lists what is there, for somebody who named something else.
func (s *Set) known() string {
	var list []string
	for _, c := range s.cards {
		list = append(list, fmt.Sprintf("%s (%s)", c.ID, c.Info.Name))
	}
	if len(list) == 0 {
		for _, name := range slices.Sorted(func(yield func(string) bool) {
			for b := range s.absent {
				if !yield(b) {
					return
				}
			}
		}) {
			list = append(list, name+": "+s.absent[name].Error())
		}
		return "none is there: " + strings.Join(list, "; ")
	}
	return "there are " + strings.Join(list, ", ")
}

// is says whether a user means the card by a name.
func (c *Card) is(name string) bool {
	if c.ID == name {
		return true
	}
	if _, err := strconv.Atoi(name); err == nil || strings.Contains(name, ":") {
		return false
	}
	for _, text := range []string{c.Info.Name, c.Info.DriverName, c.Info.Vendor} {
		if strings.Contains(strings.ToLower(text), name) {
			return true
		}
	}
	return false
}

// open checks and measures a card. The error is ctx's alone.
func (s *Set) open(ctx context.Context, c *Card) error {
	o := &s.options
	o.Tell("opening " + c.Info.Name)
	begin := time.Now()
	key := keyOf(o.Version, c.backend.Program(), c.id())
	var rate speed.Speed
	d, err := s.kept.hold(ctx, key, o.Again, func() (kernels.Device, error) {
		d, err := c.backend.Open(c.Info.Index)
		if err != nil {
			return nil, err
		}
		limit := o.Patience
		if limit == nil {
			limit = bounds(c.Info.CPU)
		}
		return newGuard(d, limit), nil
	}, func(name string) { o.Tell(fmt.Sprintf("checking %s: %s", c.Info.Name, name)) })
	if err == nil {
		o.Tell("measuring " + c.Info.Name)
		if o.Again {
			speed.ForgetCard(o.Home, key)
		}
		rate, err = speed.CachedCard(o.Home, key, d)
		if err != nil {
			_ = d.Close()
			err = &refusedError{"its speed cannot be measured: " + brief(err)}
		}
	}
	var free, total uint64
	var unknown error
	if err == nil {
		free, total, unknown = d.(*guard).MemoryInfo() // a driver may hang: not while the set is locked
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.Took = time.Since(begin)
	var refused *refusedError
	switch {
	case errors.As(err, &refused):
		c.state, c.reason = refusedState, refused.reason
		o.Log.Warn("device is not used", "device", c.ID, "name", c.Info.Name, "driver", c.Info.DriverVersion, "reason", c.reason)
		return nil
	case err != nil:
		return err
	}
	c.device, c.Speed = d.(*guard), rate
	c.state, c.reason = used, ""
	c.keep(free, total, unknown)
	o.Log.Info("device is used", "device", c.ID, "name", c.device.Name(), "decode_bytes_per_s", c.Speed.DecodeBps, "prefill_ops_per_s", 2*c.Speed.PrefillOps)
	return nil
}

// id names the card and its driver for what is kept about it.
func (c *Card) id() string {
	return strings.Join([]string{c.backend.Name(), c.Info.Name, c.Info.DriverName, c.Info.DriverVersion}, "|")
}
