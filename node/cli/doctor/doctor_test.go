package doctor

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/machine"
)

// well are the facts of a node that lacks nothing.
func well() Facts {
	return Facts{
		OS: "linux", Version: "v1",
		Daemon: &api.Overview{
			Status: api.Status{Version: "v1", PID: 42, MemOffered: 8e9},
			Peers:  []api.Peer{{Name: "desk", Self: true, State: "alive"}, {Name: "nas", State: "alive"}},
		},
		Checkup: &api.Checkup{
			Limits:   api.ProcessLimits{Files: 65536, LockedMemory: 8 << 20, AddressSpace: machine.Unlimited, Memory: machine.Unlimited},
			TCPPorts: []int{4710}, Multicast: api.Multicast{Self: true, Others: 1},
			Peers: []api.PeerCheckup{{Name: "nas", RTT: time.Millisecond, ClockAhead: 20 * time.Millisecond, Dialed: []api.Dialed{{Address: "192.168.1.20:4710"}}}},
		},
		Machine:    machine.Info{MemTotal: 16e9, MemFree: 12e9, DiskFree: 100e9, DiskTotal: 500e9, GPUs: []machine.GPU{{Name: "Radeon", Vendor: "amd", Driver: "amdgpu", VRAMTotal: 8e9}}},
		Interfaces: []machine.Interface{{Name: "lo", MTU: 65536, Loopback: true}, {Name: "eth0", MTU: 1500, Multicast: true}},
		Home:       machine.Home{Path: "/home/u/.local/share/weft"},
	}
}

func TestAHealthyNodeHasNothingButGoodLines(t *testing.T) {
	checks := Judge(well())
	names := map[string]bool{}
	for _, c := range checks {
		names[c.Name] = true
		if c.Grade != OK || c.Text == "" || c.Fix != "" {
			t.Errorf("%+v", c)
		}
	}
	if Worst(checks) != OK {
		t.Error("a healthy node is unwell")
	}
	for _, n := range []string{"daemon", "versions", "state directory", "disk", "memory", "address space", "locked memory", "open files", "gpu", "port", "clock", "multicast", "mtu", "path"} {
		if !names[n] {
			t.Errorf("nothing is said of %s", n)
		}
	}
}

// find gives the one finding of a name that is not fine.
func find(t *testing.T, f Facts, name string) Check {
	t.Helper()
	var got []Check
	for _, c := range Judge(f) {
		if c.Name == name {
			got = append(got, c)
		}
	}
	if len(got) == 0 {
		t.Fatalf("nothing is said of %s", name)
	}
	for _, c := range got {
		if c.Grade != OK {
			return c
		}
	}
	return got[0]
}

func TestEveryFaultIsFoundWithItsWayOut(t *testing.T) {
	for name, c := range map[string]struct {
		check string
		spoil func(f *Facts)
		grade Grade
		text  string
		fix   string
	}{
		"an old daemon":     {"daemon", func(f *Facts) { f.Daemon.Status.Version = "v0" }, Warn, "is version v0, this command is v1", "restart"},
		"another wire":      {"versions", func(f *Facts) { f.Daemon.Peers[1].State = "incompatible: upgrade nas" }, Fail, "nas: upgrade nas", "no model is planned"},
		"read-only home":    {"state directory", func(f *Facts) { f.Home.Error = errors.New("read-only file system") }, Fail, "read-only file system", "WEFT_HOME"},
		"open home":         {"state directory", func(f *Facts) { f.Home.Open = true }, Warn, "other users", "chmod 700"},
		"root's files":      {"state directory", func(f *Facts) { f.Home.Foreign = []string{"identity"} }, Warn, "identity", "chown"},
		"no home yet":       {"state directory", func(f *Facts) { f.Home.Missing = true }, OK, "does not exist yet", ""},
		"a full disk":       {"disk", func(f *Facts) { f.Machine.DiskFree = 5e8 }, Fail, "500 MB free", "free some"},
		"a small disk":      {"disk", func(f *Facts) { f.Machine.DiskFree = 5e9 }, Warn, "5.0 GB free", "larger disk"},
		"an unknown disk":   {"disk", func(f *Facts) { f.Machine.DiskTotal = 0 }, Skipped, "does not tell", ""},
		"a tight group":     {"memory", func(f *Facts) { f.Machine.MemFree, f.Machine.Container = 1e8, true }, Warn, "control group", "memory.max"},
		"an asking node":    {"memory", func(f *Facts) { f.Daemon.Status.MemOffered = 0 }, OK, "computes nothing", ""},
		"ulimit -v":         {"address space", func(f *Facts) { f.Checkup.Limits.AddressSpace = 1 << 30 }, Fail, "1.1 GB", "LimitAS"},
		"a lower ulimit -v": {"address space", func(f *Facts) { f.Checkup.Limits.AddressSpace = 8e9 }, Warn, "8.0 GB", "ulimit"},
		"few files":         {"open files", func(f *Facts) { f.Checkup.Limits.Files = 128 }, Fail, "128", "LimitNOFILE"},
		"rather few files":  {"open files", func(f *Facts) { f.Checkup.Limits.Files = 512 }, Warn, "512", "ulimit"},
		"no driver":         {"gpu", func(f *Facts) { f.Machine.GPUs[0].Driver = "" }, OK, "no driver has it; `weft doctor gpu`", ""},
		"no gpu":            {"gpu", func(f *Facts) { f.Machine.GPUs = nil }, OK, "none is seen", ""},
		"a firewall": {"port", func(f *Facts) {
			f.Checkup.Peers[0].Dialed[0].Error = "nothing answers: the connection timed out"
		}, Warn, "nas cannot connect to 192.168.1.20:4710: nothing answers", "ufw allow 4710"},
		"a firewall of Windows": {"port", func(f *Facts) {
			f.OS = "windows"
			f.Checkup.Peers[0].Dialed[0].Error = "nothing answers"
		}, Warn, "nas cannot", "New-NetFirewallRule"},
		"a relay":       {"port", func(f *Facts) { f.Checkup.Peers[0].Dialed, f.Checkup.Peers[0].NotDialed = nil, "through a relay" }, Warn, "through a relay", "allow"},
		"only loopback": {"port", func(f *Facts) { f.Checkup.Loopback = true }, Skipped, "loopback", ""},
		"a slow clock":  {"clock", func(f *Facts) { f.Checkup.Peers[0].ClockAhead = 5 * time.Minute }, Warn, "this machine's clock is 5m0s behind", "timedatectl"},
		"a dead clock":  {"clock", func(f *Facts) { f.Checkup.Peers[0].ClockAhead = -2 * time.Hour }, Fail, "2h0m0s ahead; certificates tolerate an hour", "set it"},
		"another's clock": {"clock", func(f *Facts) {
			f.Checkup.Peers = append(f.Checkup.Peers, f.Checkup.Peers[0], api.PeerCheckup{Name: "old", RTT: 1, ClockAhead: -90 * time.Second})
		}, Warn, "the clock of old is 1m30s behind", "there, set it"},
		"deaf to itself": {"multicast", func(f *Facts) { f.Checkup.Multicast = api.Multicast{} }, Warn, "not even", "5353"},
		"hears nobody":   {"multicast", func(f *Facts) { f.Checkup.Multicast.Others = 0 }, Warn, "none of the others", "access point"},
		"mDNS is off":    {"multicast", func(f *Facts) { f.Checkup.Multicast = api.Multicast{Error: "off"} }, Skipped, "off", ""},
		"a narrow link":  {"mtu", func(f *Facts) { f.Interfaces[1].MTU = 1200 }, Warn, "eth0 has 1200", "mtu 1400"},
		"no network":     {"mtu", func(f *Facts) { f.Interfaces = f.Interfaces[:1] }, Skipped, "loopback", ""},
		"a black hole":   {"path", func(f *Facts) { f.Checkup.Peers[0].LargeError = "timeout" }, Fail, "large ones do not", "mtu 1280"},
		"no echo":        {"path", func(f *Facts) { f.Checkup.Peers[0].SmallError = "other bytes came back" }, Warn, "does not send back", "log"},
		"nobody to ask":  {"clock", func(f *Facts) { f.Checkup.Peers = nil }, Skipped, "no other node", ""},
		"silent peers":   {"path", func(f *Facts) { f.Checkup.Peers[0].Error = "refused" }, Skipped, "nas: refused", ""},
		"no checkup":     {"port", func(f *Facts) { f.Checkup, f.NoCheckup = nil, "the daemon is older" }, Skipped, "older", ""},
	} {
		f := well()
		c.spoil(&f)
		got := find(t, f, c.check)
		if got.Grade != c.grade || !strings.Contains(got.Text, c.text) || !strings.Contains(got.Fix, c.fix) {
			t.Errorf("%s: %+v", name, got)
		}
		if (got.Grade == Warn || got.Grade == Fail) && got.Fix == "" {
			t.Errorf("%s: no way out", name)
		}
	}
}

func TestWithoutADaemonItSaysWhatItCouldNotLookAt(t *testing.T) {
	f := well()
	f.Daemon, f.Checkup, f.NoDaemon = nil, nil, "no weft is running"
	f.Limits = machine.Limits{Files: 4096, AddressSpace: machine.Unlimited}
	for name, grade := range map[string]Grade{"daemon": Warn, "port": Skipped, "clock": Skipped, "multicast": Skipped, "path": Skipped, "open files": OK, "disk": OK} {
		if got := find(t, f, name); got.Grade != grade {
			t.Errorf("%+v", got)
		}
	}
	f.Port = errors.New("address in use")
	if got := find(t, f, "port"); got.Grade != Warn || !strings.Contains(got.Fix, "--listen") {
		t.Errorf("%+v", got)
	}
	f.Interfaces = nil
	if got := find(t, f, "multicast"); got.Grade != Warn {
		t.Errorf("%+v", got)
	}
	if Worst(Judge(f)) != Warn {
		t.Error("a machine without a daemon fails")
	}
}
