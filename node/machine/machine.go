// Package machine tells what the machine it runs on has: processor, memory,
// disk and graphics processors. It reads only, changes nothing, and does not
// judge: what a fact is worth to a plan is decided elsewhere. A fact that
// cannot be had is left at its zero value, never guessed.
//
// Start reading at Probe.
package machine

import (
	"context"
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/shirou/gopsutil/v4/process"
)

// Info are the facts of one moment.
type Info struct {
	OS, Arch  string
	CPU       string // brand name
	Cores     int    // physical cores that this process may use, without efficiency cores
	Threads   int    // logical processors that this process may use
	MemTotal  int64  // bytes, bounded by the control group's limit
	MemFree   int64  // bytes that can be had without swapping
	DiskFree  int64  // bytes, on the file system of the state directory
	DiskTotal int64
	Busy      float64 // part of the processors' time that is in use, 0 to 1; 0 in a Probe's first answer
	GPUs      []GPU
	Container bool // memory is limited below the machine's
}

// GPU is a graphics processor as the system reports it.
type GPU struct {
	Name      string
	Vendor    string  // "nvidia", "amd", "intel", "apple"
	Driver    string  // of the system's kernel; "": none or not told
	VRAMTotal int64   // bytes; 0: not told
	VRAMFree  int64   // bytes; 0: none or not told
	Shared    bool    // it has no memory of its own but the processor's
	Bus       string  // PCI address as in "0000:01:00.0"; "": not told
	Celsius   float64 // temperature; 0: not told
	Watts     float64 // power that it takes now; 0: not told
}

// Facts gathers what can be had, once; dir is the state directory. See Probe for
// who asks again.
func Facts(ctx context.Context, dir string) Info { return NewProbe(dir).Facts(ctx) }

// Resident is this process's resident memory in bytes, 0 when not known.
func Resident() int64 {
	p, err := process.NewProcess(int32(os.Getpid()))
	if err != nil {
		return 0
	}
	m, err := p.MemoryInfo()
	if err != nil {
		return 0
	}
	return clamp(m.RSS)
}

// ReturnMemory gives memory that the program has freed back to the system at
// once. The runtime alone takes minutes over it, and what a node has resident is
// what people see and plans leave free. It costs a collection: it is for the end
// of something large that happens seldom, such as hashing or packing a model.
// Pages of the program itself that are no longer used go with it.
func ReturnMemory() {
	debug.FreeOSMemory()
	returnProgram()
}

func clamp(n uint64) int64 {
	if n > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(n)
}

// ParseSize reads "8GB", "512MiB", "1.5g" or bytes; 0 is a size too.
func ParseSize(s string) (int64, bool) {
	t := strings.ToLower(strings.TrimSpace(s))
	unit := 1.0
	for _, u := range []struct {
		suffix string
		size   float64
	}{
		{"kib", 1 << 10},
		{"mib", 1 << 20},
		{"gib", 1 << 30},
		{"tib", 1 << 40},
		{"kb", 1e3},
		{"mb", 1e6},
		{"gb", 1e9},
		{"tb", 1e12},
		{"k", 1e3},
		{"m", 1e6},
		{"g", 1e9},
		{"t", 1e12},
		{"b", 1},
	} {
		if rest, ok := strings.CutSuffix(t, u.suffix); ok {
			t, unit = strings.TrimSpace(rest), u.size
			break
		}
	}
	v, err := strconv.ParseFloat(t, 64)
	if err != nil || v < 0 || math.IsNaN(v) || v*unit > math.MaxInt64/2 {
		return 0, false
	}
	return int64(v * unit), true
}
