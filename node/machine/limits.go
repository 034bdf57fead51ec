package machine

import (
	"errors"
	"io/fs"
	"math"
	"net"
	"os"
	"path/filepath"
)

// Unlimited is the value of a limit that there is not.
const Unlimited = math.MaxUint64

// Limits are what the system lets this process use; 0 is not known.
type Limits struct {
	Files        uint64 // open at once
	LockedMemory uint64 // RLIMIT_MEMLOCK
	AddressSpace uint64 // RLIMIT_AS
	Memory       uint64 // of the control group
	MemoryUsed   uint64 // of the control group, this process included
}

// ProcessLimits reads this process's limits.
func ProcessLimits() Limits {
	l := processLimits()
	l.Memory = Unlimited
	if limit, used, ok := groupMemory(os.DirFS("/sys/fs/cgroup")); ok {
		l.Memory, l.MemoryUsed = uint64(limit), uint64(max(used, 0))
	}
	return l
}

// Interface is a network interface that is up.
type Interface struct {
	Name      string
	MTU       int
	Multicast bool
	Loopback  bool
}

// Interfaces lists the network interfaces that are up and have an address.
func Interfaces() []Interface {
	list, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var out []Interface
	for _, i := range list {
		addrs, err := i.Addrs()
		if i.Flags&net.FlagUp == 0 || err != nil || len(addrs) == 0 {
			continue
		}
		out = append(out, Interface{Name: i.Name, MTU: i.MTU, Multicast: i.Flags&net.FlagMulticast != 0, Loopback: i.Flags&net.FlagLoopback != 0})
	}
	return out
}

// Home is the state of a state directory.
type Home struct {
	Path    string
	Missing bool     // it does not exist; `weft up` makes it
	Open    bool     // others than its owner can read or enter it
	Foreign []string // names in it that belong to another user, the directory itself as "."
	Error   error    // why it cannot be used: no directory, or not writable
}

// maxForeign bounds what is listed.
const maxForeign = 8

// HomeState looks at a state directory. It writes a file there and removes it.
func HomeState(dir string) Home {
	h := Home{Path: dir}
	st, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		h.Missing = true
		return h
	case err != nil:
		h.Error = err
		return h
	case !st.IsDir():
		h.Error = errors.New("it is no directory")
		return h
	}
	h.Open = openToOthers(st)
	if foreign(st) {
		h.Foreign = append(h.Foreign, ".")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		h.Error = err
		return h
	}
	for _, e := range entries {
		if info, err := os.Lstat(filepath.Join(dir, e.Name())); err == nil && foreign(info) && len(h.Foreign) < maxForeign {
			h.Foreign = append(h.Foreign, e.Name())
		}
	}
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		h.Error = err
		return h
	}
	h.Error = errors.Join(f.Close(), os.Remove(f.Name()))
	return h
}
