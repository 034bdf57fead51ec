package cli_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/cli"
)

// The scripts run weft as a command of its own, over a fake node: see
// fakeStart. WEFT_FAKE chooses how the node misbehaves.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"weft": func() {
			os.Exit(cli.Main(cli.App{Start: fakeStart, Bench: fakeBench, Devices: fakeDevices, Keys: fakeKeys{}, Version: "v1.2.3"}, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
		},
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			// Sockets want short paths.
			dir, err := os.MkdirTemp("", "weft-cli-")
			if err != nil {
				return err
			}
			e.Defer(func() { os.RemoveAll(dir) })
			e.Setenv("WEFT_HOME", dir)
			e.Setenv("TZ", "UTC")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"fits": fits, "waitfor": waitFor, "interrupt": interrupt,
		},
		UpdateScripts: os.Getenv("WEFT_UPDATE_SCRIPTS") != "",
	})
}

// fits FILE [COLUMNS] fails when a line is wider than 80 columns.
func fits(ts *testscript.TestScript, neg bool, args []string) {
	for i, l := range strings.Split(ts.ReadFile(args[0]), "\n") {
		if w := ansi.StringWidth(l); w > 80 {
			ts.Fatalf("line %d of %s has %d columns: %s", i+1, args[0], w, l)
		}
	}
}

// waitfor FILE waits until a file exists.
func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	path := ts.MkAbs(args[0])
	for range 500 {
		if _, err := os.Stat(path); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	ts.Fatalf("%s does not come", path)
}

// interrupt FILE sends SIGINT to the process whose id is in the file.
func interrupt(ts *testscript.TestScript, neg bool, args []string) {
	pid, err := strconv.Atoi(strings.TrimSpace(ts.ReadFile(args[0])))
	ts.Check(err)
	p, err := os.FindProcess(pid)
	ts.Check(err)
	ts.Check(p.Signal(os.Interrupt))
}

// writePid puts this process's id into dir/pid, whole or not at all: a script
// that waits for the file must not read it half written.
func writePid(dir string) error {
	draft := filepath.Join(dir, "pid.draft")
	if err := os.WriteFile(draft, fmt.Append(nil, os.Getpid()), 0o600); err != nil {
		return err
	}
	return os.Rename(draft, filepath.Join(dir, "pid"))
}

// fakeRunning is a started fake node.
type fakeRunning struct {
	node    *fakeNode
	surface *api.Surface
	done    chan struct{}
}

func (r *fakeRunning) Node() api.Node        { return r.node }
func (r *fakeRunning) Socket() string        { return r.surface.Addr() }
func (r *fakeRunning) HTTPAddr() string      { return r.node.cfg.HTTP }
func (r *fakeRunning) Done() <-chan struct{} { return r.done }
func (r *fakeRunning) Err() error            { return nil }
func (r *fakeRunning) Close() error          { return r.surface.Close() }

func fakeStart(ctx context.Context, c api.Config, progress func(api.Progress)) (api.Running, error) {
	if os.Getenv("WEFT_FAKE") == "start" {
		return nil, errors.New("start node: no luck\nat all; try again")
	}
	r := &fakeRunning{node: &fakeNode{cfg: c, left: make(chan struct{})}, done: make(chan struct{})}
	dir := c.Home
	if c.Solo {
		dir = filepath.Join(c.Home, "solo")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	var err error
	if r.surface, err = api.ServeLocal(r.node, filepath.Join(dir, api.SocketName), nil); err != nil {
		return nil, err
	}
	go func() { <-r.node.left; close(r.done) }()
	if !c.Solo {
		if err := writePid(c.Home); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// fakeNode answers with fixed values that stretch the tables.
type fakeNode struct {
	cfg  api.Config
	left chan struct{}
}

func (f *fakeNode) fail() error {
	if os.Getenv("WEFT_FAKE") == "fail" {
		return &api.Error{Kind: api.KindNoCapacity, Message: "model big needs 9 GB more than the mesh offers; start another node"}
	}
	return nil
}

func (f *fakeNode) Status(context.Context) (api.Status, error) {
	if f.cfg.Solo {
		return api.Status{}, errors.New("solo has no status")
	}
	return api.Status{
		Version: "v1.2.3", Contract: 1, Wire: 1, Name: "desk", PeerID: "12D3KooWKS6KKXht8pYkAq3LEyjRx1o5xxBZ4PvXnGosQEfsbGsC", Home: "/home/somebody/weft",
		Mesh: "desk-mesh (4a367f2d)", Role: "admitter", HTTP: "127.0.0.1:4711", Uptime: 75 * time.Minute, PID: 42, Device: "cpu avx512vnni, 8 threads",
		Addrs:      []string{"/ip4/192.168.1.20/tcp/4710/p2p/12D3KooWKS6KKXht8pYkAq3LEyjRx1o5xxBZ4PvXnGosQEfsbGsC", "/ip4/192.168.1.20/udp/4710/quic-v1"},
		GPUs:       []api.GPU{{Name: "Some GPU 9000", Vendor: "some", VRAMTotal: 24e9, Reason: "not used: no OpenCL or CUDA driver"}},
		MemOffered: f.cfg.Memory, MemUsed: 1.5e9, RSS: 230e6, DiskUsed: 5.1e9, DiskBudget: 100e9, Peers: 1, Sessions: 2, DiskFree: 120e9, DiskTotal: 500e9, TokensPerS: 41.5, PositionsPerS: 83,
		Replies: []api.ReplyState{{Model: "tiny", PromptTokens: 12, Tokens: 40, TokensPerS: 41.5, Age: 3 * time.Second}, {Model: "tiny", PromptTokens: 700, Queued: true, Age: time.Second}},
		Stages:  []api.LoadedStage{{Model: "a-model-with-a-rather-long-name.Q4_K_M", First: 0, Last: 15, State: "ready", Bytes: 4.7e9, KVBlocks: 4096, KVUsed: 12, Sessions: 1, StepUsec: 6200, Parts: []api.StagePart{{Device: "processor", First: 0, Last: 3}, {Device: "Other GPU", First: 4, Last: 15}}}},
		Plans:   []api.PlanState{{Model: "a-model-with-a-rather-long-name.Q4_K_M", Generation: 3, State: "degraded: nas, which holds layers 16-31, has not answered for 12 s"}},
	}, f.fail()
}

func (f *fakeNode) Peers(context.Context) ([]api.Peer, error) {
	if os.Getenv("WEFT_FAKE") == "alone" {
		return nil, nil
	}
	return []api.Peer{
		{
			Name: "desk", Self: true, State: "alive", Role: "admitter", Device: "cpu avx512vnni, 8 threads", DecodeBps: 15.8e9, MemOffered: 18e9, MemFree: 16.5e9,
			CPU: "Some CPU 9 7950X", Cores: 8, MemTotal: 68e9, OS: "linux/amd64", Version: "weft v1.2.3", Busy: 0.12, DiskFree: 120e9, DiskTotal: 500e9, TokensPerS: 41.5,
			GPUs: []api.GPU{
				{Name: "Some GPU 9000", VRAMTotal: 24e9, VRAMFree: 20e9, Reason: "not used: no OpenCL or CUDA driver"},
				{ID: "cuda:0", Name: "Other GPU", VRAMTotal: 12e9, VRAMFree: 5e9, Used: true, Room: 11e9, Held: 6.2e9, DecodeBps: 320e9, Celsius: 61, Watts: 145},
			},
			Held: []api.HeldModel{{Name: "tiny", Complete: true, Layers: 2}, {Name: "qwen2.5-coder-7b-instruct.Q4_K_M", Layers: 28, Ranges: [][2]int{{0, 13}}}},
		},
		{
			Name: "a-nas-with-a-very-long-name\x1b[31m.home.example", State: "alive", Role: "compute", Device: "cpu avx2, 4 threads", DecodeBps: 9.1e9, MemOffered: 6e9, MemFree: 512e6, RTT: 730 * time.Microsecond, Age: 200 * time.Second, Stale: true,
			Bandwidth: 117e6, Version: "weft v1.2.4", Note: "runs weft v1.2.4, this node weft v1.2.3: they work together",
			GPUs: []api.GPU{{Name: "Old GPU", Shared: true, Reason: "not used: no OpenCL or CUDA driver"}},
		},
		{Name: "phone", State: "incompatible: it speaks wire version 2, this node 1: upgrade this node", Role: "client", RTT: 12 * time.Millisecond},
	}, f.fail()
}

func (f *fakeNode) Models(context.Context) ([]api.Model, error) {
	if os.Getenv("WEFT_FAKE") == "alone" {
		return nil, nil
	}
	return []api.Model{fakeModel("qwen2.5-coder-7b-instruct.Q4_K_M", true), fakeModel("tiny", false), {Name: "elsewhere", Hash: "ffffffffffff", Context: 4096, Source: "peer", Holders: []string{"nas", "desk"}}}, f.fail()
}

func (f *fakeNode) Overview(ctx context.Context) (o api.Overview, err error) {
	if o.Status, err = f.Status(ctx); err == nil {
		if o.Peers, err = f.Peers(ctx); err == nil {
			o.Models, err = f.Models(ctx)
		}
	}
	return o, err
}

func (f *fakeNode) Checkup(context.Context) (api.Checkup, error) {
	c := api.Checkup{Limits: api.ProcessLimits{Files: 1024, AddressSpace: math.MaxUint64, Memory: math.MaxUint64}, TCPPorts: []int{4710}, Multicast: api.Multicast{Self: true, Others: 1}}
	c.Peers = []api.PeerCheckup{{Name: "nas", RTT: 2 * time.Millisecond, ClockAhead: 40 * time.Millisecond, Dialed: []api.Dialed{{Address: "192.168.1.20:4710"}}}}
	if os.Getenv("WEFT_FAKE") == "unwell" {
		c.Peers[0].ClockAhead = -2 * time.Hour
		c.Peers[0].Dialed[0].Error = "nothing answers: the connection timed out"
		c.Peers[0].LargeError = "no answer: i/o timeout"
		c.Multicast = api.Multicast{}
	}
	return c, nil
}

func fakeModel(name string, def bool) api.Model {
	return api.Model{Name: name, Hash: "0123456789abcdef", Arch: "qwen2", Params: 7_600_000_000, Layers: 28, FileBytes: 4_680_000_000, DiskBytes: 5_100_000_000, Pinned: true, InUse: true, Context: 8192, KV: "f16", ActBits: 8, Source: "/m.gguf", State: "ready", Holders: []string{"desk", "nas"}, Default: def}
}

func (f *fakeNode) AddModel(_ context.Context, r api.AddRequest, progress func(api.Progress)) (api.Model, error) {
	if !filepath.IsAbs(r.Path) {
		return api.Model{}, fmt.Errorf("path %s is not absolute", r.Path)
	}
	m := fakeModel(r.Name, false)
	if r.Context > 0 {
		m.Context = r.Context
	}
	m.KV, m.ActBits = r.KV, r.ActBits
	return m, f.fail()
}

func (f *fakeNode) PullModel(ctx context.Context, r api.PullRequest, progress func(api.Progress)) (api.Model, error) {
	for i := range 8 {
		progress(api.Progress{Phase: "download", Text: "downloading " + r.Ref + strings.Repeat(" and a very long name", 5), Done: int64(i+1) * 1e9, Total: 8e9, Unit: "bytes", Rate: 9e8})
		time.Sleep(200 * time.Millisecond)
	}
	return fakeModel(r.Ref, false), f.fail()
}

func (f *fakeNode) RemoveModel(_ context.Context, ref string) (api.Model, error) {
	return fakeModel(ref, false), f.fail()
}

func (f *fakeNode) PinModel(_ context.Context, r api.PinRequest) (api.Model, error) {
	return fakeModel(r.Model, false), f.fail()
}

func (f *fakeNode) Plan(_ context.Context, r api.PlanRequest, progress func(api.Progress)) (api.Plan, error) {
	return api.Plan{
		Model: r.Model, Generation: 2, State: "ready", Head: "desk", TTFTms: 481, TPOTms: 24.6, MeasTPOTms: 26.1, MeasTTFTms: 1510,
		Stages: []api.PlanStage{
			{Node: "x", Name: "desk", First: 0, Last: 15, Bytes: 2.4e9, KVBytes: 755e6, StepMs: 12.1, MeasStep: 13},
			{Node: "y", Name: "a-nas-with-a-very-long-name.home.example", First: 16, Last: 16, Bytes: 2.3e9, KVBytes: 755e6, StepMs: 11.9, HopMs: 0.4},
		},
		Why: []string{"no node holds the whole model: desk could take 24 of 32 layers, and the rest needs 1.2 GB more than it offers"},
	}, f.fail()
}

func (f *fakeNode) Invitations(context.Context) ([]api.Invitation, error) {
	return []api.Invitation{
		{ID: "0011223344556677", Role: "compute", Uses: 3, Used: 1, State: "open", Expires: time.Unix(1700000000, 0)},
		{ID: "8899aabbccddeeff", Role: "admitter", Uses: 1000, Used: 1000, State: "used up", Expires: time.Unix(1700000000, 0)},
	}, f.fail()
}

func (f *fakeNode) WithdrawInvitation(_ context.Context, r api.WithdrawRequest) (api.Invitation, error) {
	return api.Invitation{ID: r.ID, Used: 1}, f.fail()
}

func (f *fakeNode) BackupRoot(_ context.Context, r api.BackupRequest) (api.Backup, error) {
	return api.Backup{File: []byte("sealed with " + r.Passphrase + "\n"), Mesh: "desk-mesh (4a367f2d)"}, f.fail()
}

func (f *fakeNode) RestoreRoot(_ context.Context, r api.RestoreRequest) (api.Restored, error) {
	if string(r.File) != "sealed with "+r.Passphrase+"\n" {
		return api.Restored{}, errors.New("open the backup: the passphrase is wrong")
	}
	return api.Restored{Mesh: "desk-mesh (4a367f2d)"}, f.fail()
}

// fakeKeys stands for the keys of a home without a daemon.
type fakeKeys struct{}

func (fakeKeys) BackupRoot(_ context.Context, home string, r api.BackupRequest) (api.Backup, error) {
	return (&fakeNode{}).BackupRoot(context.Background(), r)
}

func (fakeKeys) RestoreRoot(_ context.Context, home string, r api.RestoreRequest) (api.Restored, error) {
	return (&fakeNode{}).RestoreRoot(context.Background(), r)
}

func (f *fakeNode) Trusted(context.Context) ([]api.Member, error) {
	day := func(n int) time.Time { return time.Unix(1700000000, 0).AddDate(0, 0, n) }
	const id = "12D3KooWKS6KKXht8pYkAq3LEyjRx1o5xxBZ4PvXnGosQEfsbGsC"
	return []api.Member{
		{Name: "desk", PeerID: id, Self: true, Connected: false, Role: "admitter", State: "member", AdmittedBy: "the root", Expires: day(1500)},
		{Name: "laptop of somebody with a long name", PeerID: id, Connected: true, Role: "compute", State: "member", AdmittedBy: "desk", AdmittedByID: id, Expires: day(13)},
		{Name: "nas", PeerID: id, Role: "client", State: "member", AdmittedByID: id, Expires: day(3)},
		{Name: "old", PeerID: id, Role: "compute", State: "revoked", AdmittedBy: "desk", RevokedAt: day(-2), Expires: day(3)},
	}, f.fail()
}

func (f *fakeNode) Revoke(_ context.Context, r api.RevokeRequest) (api.Member, error) {
	return api.Member{Name: r.Peer, PeerID: "12D3KooWlaptop", State: "revoked"}, f.fail()
}

func (f *fakeNode) Approve(_ context.Context, r api.ApproveRequest) (api.Approval, error) {
	return api.Approval{Name: "laptop", PeerID: "12D3KooWlaptop", Role: r.Role, Mesh: "desk-mesh (4a367f2d)"}, f.fail()
}

func (f *fakeNode) Invite(_ context.Context, r api.InviteRequest) (api.Invite, error) {
	return api.Invite{Token: "weft1token", Uses: r.Uses, Expires: time.Unix(1700000000, 0).Add(r.Expires)}, f.fail()
}

func (f *fakeNode) Leave(context.Context) error {
	close(f.left)
	return nil
}

func (f *fakeNode) WriteMetrics(context.Context) ([]byte, error) { return nil, nil }

// Generate echoes what it was asked, so that scripts see what flags become.
func (f *fakeNode) Generate(ctx context.Context, r api.GenerateRequest, emit func(api.Event) error) (api.Reply, error) {
	if err := f.fail(); err != nil {
		return api.Reply{}, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "model=%s solo=%v", filepath.Base(r.Model), f.cfg.Solo)
	if r.Temperature != nil {
		fmt.Fprintf(&b, " temp=%v", *r.Temperature)
	}
	if r.Seed != nil {
		fmt.Fprintf(&b, " seed=%v", *r.Seed)
	}
	fmt.Fprintf(&b, " max=%d ctx=%d abs=%v", r.MaxTokens, r.Context, filepath.IsAbs(r.Model))
	if r.DraftModel != "" {
		fmt.Fprintf(&b, " draft=%s", filepath.Base(r.DraftModel))
	}
	if r.Prompt != nil {
		fmt.Fprintf(&b, " raw=%q", *r.Prompt)
	}
	for _, m := range r.Messages {
		fmt.Fprintf(&b, " %s=%q", m.Role, m.Content.String())
	}
	rep := api.Reply{Model: "tiny", PromptTokens: []int32{1, 2}, Tokens: []int32{3}, Text: b.String(), FinishReason: "stop", Seed: 5, Plan: api.ReplyPlan{Stages: []api.PlanStage{}}}
	if r.StateHash {
		rep.StateHash = "abcd"
	}
	if err := emit(api.Event{Start: &api.Start{Model: "tiny", PromptTokens: 2, Seed: 5}}); err != nil {
		return rep, err
	}
	if err := emit(api.Event{Text: rep.Text, Tokens: []api.Token{{ID: 3}}}); err != nil {
		return rep, err
	}
	switch os.Getenv("WEFT_FAKE") {
	case "full":
		rep.FinishReason, rep.FinishDetail = "length", "the context of 128 tokens is full"
	case "failover":
		lost := api.Progress{Phase: "failover", Text: "node nas was lost (its connection broke): planning tiny again, the reply goes on"}
		if err := emit(api.Event{Progress: &lost}); err != nil {
			return rep, err
		}
		rep.Text, rep.Failovers = rep.Text+" and on", 1
		if err := emit(api.Event{Text: " and on"}); err != nil {
			return rep, err
		}
	case "hang":
		time.Sleep(time.Second) // the command reads what was sent before it is interrupted
		if err := writePid("."); err != nil {
			return rep, err
		}
		<-ctx.Done()
		return rep, ctx.Err()
	}
	return rep, nil
}
