// Package doctor judges what may stand in the way of a node: it turns facts
// about the machine, the daemon and what peers say into lines that are fine, a
// warning or a failure, each with the way out. It looks at nothing itself: the
// facts are handed in.
//
// Start reading at Judge.
package doctor

import (
	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/machine"
)

// Grade is how bad a finding is.
type Grade string

// Grades. Skipped means that something could not be looked at, and why.
const (
	OK      Grade = "ok"
	Skipped Grade = "skip"
	Warn    Grade = "warn"
	Fail    Grade = "fail"
)

// Check is one finding.
type Check struct {
	Name  string `json:"name"`
	Grade Grade  `json:"grade"`
	Text  string `json:"text"`
	Fix   string `json:"fix,omitempty"` // the way out
}

// Facts are what there is to judge.
type Facts struct {
	OS      string // as runtime.GOOS names it
	Version string // of this command
	// Daemon is what the node says of itself and its peers, nil with the reason
	// in NoDaemon.
	Daemon   *api.Overview
	NoDaemon string
	// Checkup is nil with the reason in NoCheckup; without a daemon both are
	// empty.
	Checkup   *api.Checkup
	NoCheckup string
	// Port says why the default port cannot be had, where no daemon runs.
	Port error

	Machine    machine.Info
	Limits     machine.Limits // of this command's process
	Interfaces []machine.Interface
	Home       machine.Home
}

// Judge gives all findings in a fixed order.
func Judge(f Facts) []Check {
	var out []Check
	for _, c := range []func(Facts) []Check{
		daemon, versions, home, disk, memory, addressSpace, lockedMemory, files, gpus, port, clock, multicast, mtu, path,
	} {
		out = append(out, c(f)...)
	}
	return out
}

// Worst is the worst grade of all.
func Worst(checks []Check) Grade {
	worst := OK
	for _, c := range checks {
		if c.Grade == Fail || c.Grade == Warn && worst == OK {
			worst = c.Grade
		}
	}
	return worst
}

func one(c Check) []Check { return []Check{c} }

// noPeers is why a question to peers is not answered, "" where it is.
func noPeers(f Facts) string {
	switch {
	case f.Daemon == nil:
		return "no node runs here that could ask others"
	case f.Checkup == nil:
		return f.NoCheckup
	case len(f.Checkup.Peers) == 0:
		return "there is no other node to ask"
	}
	for _, p := range f.Checkup.Peers {
		if p.Error == "" {
			return ""
		}
	}
	return "no other node answers: " + f.Checkup.Peers[0].Name + ": " + f.Checkup.Peers[0].Error
}
