package machine

import (
	"context"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/cpuid/v2"
	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/mem"
)

// What is asked again only after a while: cards, because asking starts a command
// or a library, and the processor's load, which is a mean over that time.
const (
	gpuEvery  = time.Minute
	busyEvery = 2 * time.Second
)

// Probe gathers the facts of this machine again and again. It is safe for use by
// several goroutines.
type Probe struct {
	dir string
	now func() time.Time

	mu      sync.Mutex // guards all below
	gpus    []GPU
	gpusAt  time.Time
	busy    float64
	busyAt  time.Time
	ticks   cpu.TimesStat
	started bool
}

// NewProbe makes a Probe; dir is the state directory.
func NewProbe(dir string) *Probe { return &Probe{dir: dir, now: time.Now} }

// Facts gathers what can be had. It blocks for about a millisecond, and for as
// long as NVIDIA's command takes when that is due.
func (p *Probe) Facts(ctx context.Context) Info {
	i := Info{
		OS: runtime.GOOS, Arch: runtime.GOARCH,
		CPU:     strings.TrimSpace(cpuid.CPU.BrandName),
		Threads: runtime.GOMAXPROCS(0),
	}
	if i.CPU == "" {
		i.CPU = systemCPU()
	}
	if i.CPU == "" {
		i.CPU = runtime.GOARCH
	}
	i.Cores = i.Threads
	if n := systemCores(); n > 0 {
		i.Cores = min(n, i.Threads)
	} else if per := cpuid.CPU.ThreadsPerCore; per > 1 {
		i.Cores = max(1, i.Threads/per)
	}
	if m, err := mem.VirtualMemoryWithContext(ctx); err == nil {
		i.MemTotal, i.MemFree = clamp(m.Total), clamp(m.Available)
	}
	if limit, used, ok := groupMemory(os.DirFS("/sys/fs/cgroup")); ok && limit < i.MemTotal {
		i.MemTotal, i.Container = limit, true
		i.MemFree = max(0, min(i.MemFree, limit-used))
	}
	if u, err := disk.UsageWithContext(ctx, p.dir); err == nil {
		i.DiskFree, i.DiskTotal = clamp(u.Free), clamp(u.Total)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if p.gpusAt.IsZero() || now.Sub(p.gpusAt) >= gpuEvery {
		p.gpus, p.gpusAt = gpus(ctx, os.DirFS("/")), now
	}
	i.GPUs = p.gpus
	if !p.started || now.Sub(p.busyAt) >= busyEvery {
		if t, err := cpu.TimesWithContext(ctx, false); err == nil && len(t) == 1 {
			p.busy = share(p.ticks, t[0], p.started)
			p.ticks, p.busyAt, p.started = t[0], now, true
		}
	}
	i.Busy = p.busy
	return i
}

// share is the part of the time between two readings in which processors worked.
func share(a, b cpu.TimesStat, ok bool) float64 {
	work := func(t cpu.TimesStat) float64 { return t.User + t.System + t.Nice + t.Irq + t.Softirq + t.Steal }
	idle := func(t cpu.TimesStat) float64 { return t.Idle + t.Iowait }
	w, rest := work(b)-work(a), idle(b)-idle(a)
	if !ok || w < 0 || rest < 0 || w+rest <= 0 {
		return 0
	}
	return w / (w + rest)
}
