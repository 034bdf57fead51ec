package doctor

import (
	"fmt"
	"strings"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/machine"
)

// Bounds of what is enough.
const (
	leastDisk    = 1 << 30   // less holds no model at all
	littleDisk   = 10 << 30  // less holds one of a few billion parameters
	leastMemory  = 512 << 20 // beside which nothing runs
	leastFiles   = 256
	littleFiles  = 1024
	leastAddress = 4 << 30
)

func daemon(f Facts) []Check {
	c := Check{Name: "daemon"}
	switch {
	case f.Daemon == nil:
		c.Grade, c.Text, c.Fix = Warn, f.NoDaemon, "start it with `weft up`, or for good with `weft service install`; some checks need it"
	case f.Daemon.Status.Version != f.Version:
		c.Grade = Warn
		c.Text = fmt.Sprintf("the running node is version %s, this command is %s", f.Daemon.Status.Version, f.Version)
		c.Fix = "restart the node: stop `weft up` and start it again, or run `weft service install` again"
	default:
		c.Grade, c.Text = OK, fmt.Sprintf("version %s runs with pid %d", f.Version, f.Daemon.Status.PID)
	}
	return one(c)
}

// versions tells of peers that run another one.
func versions(f Facts) []Check {
	if f.Daemon == nil {
		return nil
	}
	var out []Check
	for _, p := range f.Daemon.Peers {
		if _, why, ok := strings.Cut(p.State, "incompatible:"); ok {
			out = append(out, Check{"versions", Fail, p.Name + ":" + why, "until then no model is planned over both"})
		}
	}
	if len(out) == 0 && len(f.Daemon.Peers) > 1 {
		return one(Check{"versions", OK, fmt.Sprintf("all %d nodes work together", len(f.Daemon.Peers)), ""})
	}
	return out
}

func home(f Facts) []Check {
	h := f.Home
	c := Check{Name: "state directory", Grade: OK, Text: h.Path}
	switch {
	case h.Missing:
		c.Text += " does not exist yet; `weft up` makes it"
	case h.Error != nil:
		c.Grade, c.Text, c.Fix = Fail, fmt.Sprintf("%s cannot be used: %v", h.Path, h.Error), "make it writable for this user, or choose another with WEFT_HOME"
	case len(h.Foreign) > 0:
		c.Grade, c.Text = Warn, fmt.Sprintf("in %s these belong to another user: %s", h.Path, strings.Join(h.Foreign, ", "))
		c.Fix = fmt.Sprintf("was weft run with sudo? Give them back: sudo chown -R \"$USER\" %q", h.Path)
	case h.Open:
		c.Grade, c.Text, c.Fix = Warn, h.Path+" can be entered by other users of this machine; the node's key lies there", fmt.Sprintf("chmod 700 %q", h.Path)
	default:
		c.Text += " is this user's alone and writable"
	}
	return one(c)
}

func disk(f Facts) []Check {
	m := f.Machine
	c := Check{Name: "disk", Grade: OK, Text: fmt.Sprintf("%s free of %s", size(m.DiskFree), size(m.DiskTotal))}
	switch {
	case m.DiskTotal == 0:
		c.Grade, c.Text = Skipped, "the system does not tell how much is free"
	case m.DiskFree < leastDisk:
		c.Grade, c.Fix = Fail, "free some: weights that cannot be stored cannot be computed with; `weft models` lists what is there, `weft rm` forgets one"
	case m.DiskFree < littleDisk:
		c.Grade, c.Fix = Warn, "a model of some billion parameters needs more: free some, or put WEFT_HOME on a larger disk"
	}
	return one(c)
}

func memory(f Facts) []Check {
	m := f.Machine
	c := Check{Name: "memory", Grade: OK, Text: fmt.Sprintf("%s free of %s", size(m.MemFree), size(m.MemTotal))}
	if f.Daemon != nil {
		c.Text += fmt.Sprintf("; the node offers %s", size(f.Daemon.Status.MemOffered))
		if f.Daemon.Status.MemOffered == 0 {
			c.Text += ", so it asks and computes nothing"
		}
	}
	if m.Container {
		c.Text += "; a control group (container or service) limits it below the machine's"
	}
	if m.MemFree < leastMemory {
		c.Grade, c.Fix = Warn, "close other programs, raise the control group's limit (memory.max, `docker run --memory`, MemoryMax= of a unit), or start with --memory 0 to ask only"
	}
	return one(c)
}

// limits are those of the node's process, where one runs.
func limits(f Facts) machine.Limits {
	if f.Checkup != nil {
		return machine.Limits(f.Checkup.Limits)
	}
	return f.Limits
}

func addressSpace(f Facts) []Check {
	l := limits(f).AddressSpace
	c := Check{Name: "address space", Grade: OK, Text: "not limited"}
	switch {
	case l == 0:
		c.Grade, c.Text = Skipped, "the system does not tell a limit"
	case l == machine.Unlimited:
	case l < leastAddress:
		c.Grade, c.Text, c.Fix = Fail, fmt.Sprintf("limited to %s: weights are mapped and would not fit", size64(l)), "raise it where the node is started: `ulimit -v unlimited`, or LimitAS=infinity in the unit"
	case l < uint64(max(f.Machine.MemTotal, 0)):
		c.Grade, c.Text, c.Fix = Warn, fmt.Sprintf("limited to %s, less than the machine's memory", size64(l)), "raise it where the node is started: `ulimit -v unlimited`, or LimitAS=infinity in the unit"
	default:
		c.Text = "limited to " + size64(l)
	}
	return one(c)
}

// lockedMemory is told because people know the limit from other programs.
func lockedMemory(f Facts) []Check {
	l := limits(f).LockedMemory
	switch l {
	case 0:
		return nil
	case machine.Unlimited:
		return one(Check{"locked memory", OK, "not limited; weft locks none", ""})
	}
	return one(Check{"locked memory", OK, size64(l) + " may be locked; weft locks none, so this limits nothing", ""})
}

func files(f Facts) []Check {
	l := limits(f).Files
	c := Check{Name: "open files", Grade: OK, Text: fmt.Sprintf("%d at once", l)}
	fix := "raise it where the node is started: `ulimit -n 65536`, or LimitNOFILE=65536 in the unit"
	switch {
	case l == 0:
		c.Grade, c.Text = Skipped, "the system does not tell a limit"
	case l == machine.Unlimited:
		c.Text = "not limited"
	case l < leastFiles:
		c.Grade, c.Fix = Fail, fix
	case l < littleFiles:
		c.Grade, c.Fix = Warn, fix
	}
	return one(c)
}

func gpus(f Facts) []Check {
	if f.Daemon != nil && len(f.Daemon.Status.GPUs) > 0 {
		return gpusOfDaemon(f.Daemon.Status.GPUs)
	}
	if len(f.Machine.GPUs) == 0 {
		return one(Check{"gpu", OK, "none is seen; weft computes on the processor", ""})
	}
	var out []Check
	for _, g := range f.Machine.GPUs {
		text := g.Name
		if g.VRAMTotal > 0 {
			text += ", " + size(g.VRAMTotal)
		}
		switch {
		case g.Driver != "":
			text += ", driver " + g.Driver
		case g.Vendor != "apple" && f.OS == "linux":
			text += ", no driver has it"
		}
		out = append(out, Check{"gpu", OK, text + "; `weft doctor gpu` says whether weft can compute on it", ""})
	}
	return out
}

// gpusOfDaemon judges what the node computes on.
func gpusOfDaemon(list []api.GPU) []Check {
	var out []Check
	for _, g := range list {
		text := g.Name
		if g.VRAMTotal > 0 {
			text += ", " + size(g.VRAMTotal)
		}
		switch {
		case g.Used:
			out = append(out, Check{"gpu", OK, text + ": the node computes on it", ""})
		case g.ID != "" && (strings.Contains(g.Reason, "contract") || strings.Contains(g.Reason, "failed")):
			out = append(out, Check{"gpu", Warn, text + ": " + g.Reason, "update its driver, then run `weft doctor gpu`; until then the processor computes"})
		default:
			out = append(out, Check{"gpu", OK, text + ": " + g.Reason, ""})
		}
	}
	return out
}

// size writes bytes for people, in powers of ten.
func size(n int64) string {
	if n < 0 {
		return "?"
	}
	return size64(uint64(n))
}

func size64(n uint64) string {
	v := float64(n)
	for _, unit := range []string{"B", "kB", "MB", "GB", "TB"} {
		if v < 999.5 || unit == "TB" {
			if v < 9.95 && unit != "B" {
				return fmt.Sprintf("%.1f %s", v, unit)
			}
			return fmt.Sprintf("%.0f %s", v, unit)
		}
		v /= 1000
	}
	return ""
}
