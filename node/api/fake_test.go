package api_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/weft-mesh/weft/node/api"
)

// fakeNode is what lies behind the surface: it answers with what it is told
// and remembers what it was asked.
type fakeNode struct {
	mu      sync.Mutex // guards what follows
	asked   []api.GenerateRequest
	calls   []any
	fail    error
	words   []string      // of a reply; each is a token
	block   bool          // replies wait for their end after the first word
	begun   chan struct{} // gets a value when a reply blocks
	ended   chan struct{} // gets a value when a blocked reply has ended
	panics  bool
	noStart bool // fail before the start
}

func newFake() *fakeNode {
	return &fakeNode{words: []string{"one", " two", " three"}, begun: make(chan struct{}, 16), ended: make(chan struct{}, 16)}
}

func (f *fakeNode) call(v any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, v)
	return f.fail
}

func (f *fakeNode) requests() []api.GenerateRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]api.GenerateRequest(nil), f.asked...)
}

var (
	someModel      = api.Model{Name: "tiny", Hash: strings.Repeat("ab", 32), Arch: "llama", Layers: 2, Context: 128, KV: "f16", ActBits: 8, Holders: []string{"a"}, Added: time.Unix(1700000000, 0).UTC()}
	someStatus     = api.Status{Version: "1", Name: "a", Uptime: time.Minute, Stages: []api.LoadedStage{{Model: "tiny", Last: 1}}}
	somePeer       = api.Peer{Name: "b", RTT: time.Millisecond, State: "alive", Models: []string{"tiny"}}
	somePlan       = api.Plan{Model: "tiny", State: "ready", Stages: []api.PlanStage{{Node: "x", Name: "a", Last: 1}}, Why: []string{"because"}}
	someInvite     = api.Invite{Token: "weft1abc", Uses: 2, Expires: time.Unix(1700000000, 0).UTC()}
	someInvitation = api.Invitation{ID: "0011", Role: "client", Uses: 2, Used: 1, UsedBy: []string{"12D3Koo"}, Expires: time.Unix(1700000000, 0).UTC(), State: "open"}
	someMember     = api.Member{Name: "b", PeerID: "12D3Koo", State: "revoked", RevokedAt: time.Unix(1700000000, 0).UTC()}
	someApproval   = api.Approval{Name: "b", PeerID: "12D3Koo", Role: "client", Mesh: "home (4a367f2d)"}
	someStep       = api.Progress{Phase: "load", Text: "loading", Done: 1, Total: 2, Unit: "bytes", Rate: 3}
)

func (f *fakeNode) Status(context.Context) (api.Status, error) { return someStatus, f.call("status") }

func (f *fakeNode) Peers(context.Context) ([]api.Peer, error) {
	return []api.Peer{somePeer}, f.call("peers")
}

func (f *fakeNode) Models(context.Context) ([]api.Model, error) {
	twin := someModel
	twin.Name = "twin"
	other := twin
	other.Hash = strings.Repeat("cd", 32)
	return []api.Model{someModel, twin, other}, f.call("models")
}

func (f *fakeNode) Overview(context.Context) (api.Overview, error) {
	return api.Overview{Status: someStatus, Peers: []api.Peer{somePeer}, Models: []api.Model{someModel}}, f.call("overview")
}

func (f *fakeNode) Checkup(context.Context) (api.Checkup, error) {
	return api.Checkup{TCPPorts: []int{4710}, Peers: []api.PeerCheckup{{Name: "b", RTT: time.Millisecond, Dialed: []api.Dialed{{Address: "1.2.3.4:4710"}}}}}, f.call("checkup")
}

func (f *fakeNode) AddModel(_ context.Context, r api.AddRequest, progress func(api.Progress)) (api.Model, error) {
	progress(someStep)
	return someModel, f.call(r)
}

func (f *fakeNode) PullModel(_ context.Context, r api.PullRequest, progress func(api.Progress)) (api.Model, error) {
	progress(someStep)
	return someModel, f.call(r)
}

func (f *fakeNode) RemoveModel(_ context.Context, ref string) (api.Model, error) {
	return someModel, f.call(ref)
}

func (f *fakeNode) PinModel(_ context.Context, r api.PinRequest) (api.Model, error) {
	return someModel, f.call(r)
}

func (f *fakeNode) Plan(_ context.Context, r api.PlanRequest, progress func(api.Progress)) (api.Plan, error) {
	progress(someStep)
	return somePlan, f.call(r)
}

func (f *fakeNode) Invite(_ context.Context, r api.InviteRequest) (api.Invite, error) {
	return someInvite, f.call(r)
}

func (f *fakeNode) Approve(_ context.Context, r api.ApproveRequest) (api.Approval, error) {
	return someApproval, f.call(r)
}

func (f *fakeNode) Trusted(context.Context) ([]api.Member, error) {
	return []api.Member{someMember}, f.call("trust")
}

func (f *fakeNode) Revoke(_ context.Context, r api.RevokeRequest) (api.Member, error) {
	return someMember, f.call(r)
}

func (f *fakeNode) Invitations(context.Context) ([]api.Invitation, error) {
	return []api.Invitation{someInvitation}, f.call("invitations")
}

func (f *fakeNode) WithdrawInvitation(_ context.Context, r api.WithdrawRequest) (api.Invitation, error) {
	return someInvitation, f.call(r)
}

func (f *fakeNode) BackupRoot(_ context.Context, r api.BackupRequest) (api.Backup, error) {
	return api.Backup{File: []byte{1, 2}, Mesh: "home (4a367f2d)"}, f.call(r)
}

func (f *fakeNode) RestoreRoot(_ context.Context, r api.RestoreRequest) (api.Restored, error) {
	return api.Restored{Mesh: "home (4a367f2d)"}, f.call(r)
}

func (f *fakeNode) Leave(context.Context) error { return f.call("leave") }

func (f *fakeNode) WriteMetrics(context.Context) ([]byte, error) {
	return []byte("weft_peers 1\n"), f.call("metrics")
}

func (f *fakeNode) Generate(ctx context.Context, r api.GenerateRequest, emit func(api.Event) error) (api.Reply, error) {
	f.mu.Lock()
	f.asked = append(f.asked, r)
	fail := f.fail
	f.mu.Unlock()
	if f.panics {
		panic("a template went wild")
	}
	if fail != nil && f.noStart {
		return api.Reply{}, fail
	}
	rep := api.Reply{Model: "tiny", PromptTokens: []int32{1, 2}, Tokens: []int32{}, FinishReason: "stop", Seed: 7, Cached: 1, StateHash: "ff"}
	if err := emit(api.Event{Start: &api.Start{Model: "tiny", PromptTokens: 2, Seed: 7}}); err != nil {
		return rep, err
	}
	for i, w := range f.words {
		if i == 1 && f.block {
			f.begun <- struct{}{}
			<-ctx.Done()
			f.ended <- struct{}{}
			return rep, ctx.Err()
		}
		if i == 1 && fail != nil {
			return rep, fail
		}
		tok := api.Token{ID: int32(i), Text: w, Bytes: []byte(w), Logprob: -0.5, Top: []api.Token{{ID: int32(i), Text: w, Bytes: []byte(w), Logprob: -0.5}}}
		rep.Tokens = append(rep.Tokens, tok.ID)
		rep.Logprobs = append(rep.Logprobs, tok)
		rep.Text += w
		if err := emit(api.Event{Text: w, Tokens: []api.Token{tok}}); err != nil {
			return rep, err
		}
		if r.MaxTokens > 0 && i+1 == r.MaxTokens {
			rep.FinishReason = "length"
			break
		}
	}
	return rep, nil
}

var errPlain = errors.New("something broke")
