package api

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/weft-mesh/weft/node/chat"
)

// Config is what `weft up`, or a run without a daemon, asks of a node. The zero
// value of each field but Home stands for its default.
type Config struct {
	Home        string       // state directory; required
	Solo        bool         // no mesh: no sockets but the API's own, no identity needed
	Listen      []string     // mesh listen addresses, "host:port" or ":port"; default ":4710", the next free port when that is the default and taken
	HTTP        string       // OpenAI-compatible address; default "127.0.0.1:4711", next free port when that is the default and taken; "off" for none
	APIKeys     []string     // keys that HTTP clients outside loopback must present
	Hosts       []string     // further Host names that the HTTP surface answers to
	Join        string       // invitation token
	Name        string       // the node's name for people; default the host's name
	Memory      int64        // bytes that the mesh may use for weights and KV; default 3/4 of what is available; less than 0 for none (a head without weights)
	Disk        int64        // bytes on disk that weights may take; default what is there and nine tenths of what is free
	WeightsRate int64        // bytes a second of weights sent to other nodes at most; 0 for no bound
	Threads     int          // compute threads; default the physical cores
	Tier        string       // kernel tier; default the best
	VRAM        int64        // bytes that the mesh may use of each such device's own memory; default what is free but a margin
	Devices     string       // what to compute on beside the processor: "auto", the default, "cpu", "gpu" or a list of devices
	Log         *slog.Logger // default discards
	Version     string       // the build's version
	// Now is the machine's clock, for tests of clocks that are wrong; default time.Now.
	Now func() time.Time

	// For a home without a mesh: the name or the beginning of the id of the
	// only mesh to ask; default any. Or the name of one to found at once.
	Mesh, New string
	// Peers are addresses of members, "host:port" or a multiaddr with a peer
	// id, beside what the local network tells.
	Peers []string
	// Speculate is how replies are speculated whose request does not say: "off",
	// "sync", "async" or "auto", the default.
	Speculate  string
	DraftModel string   // a small model of the library whose guesses are verified; default none
	Bootstrap  []string // nodes of a DHT to find members of other networks at: "public" or PEER@HOST:PORT; default none
}

// Running is a started node.
type Running interface {
	Node() Node
	// Socket is the path of the unix socket on which the whole API listens.
	Socket() string
	// HTTPAddr is where the OpenAI-compatible surface listens, or "".
	HTTPAddr() string
	// Done is closed when the node has stopped, by Close, by `weft leave` or by a failure.
	Done() <-chan struct{}
	Err() error
	Close() error
}

// Starter starts a node; the command line is given one so that it knows the
// daemon through this package alone. progress is called from Start's goroutine.
type Starter func(ctx context.Context, c Config, progress func(Progress)) (Running, error)

// Node is the daemon as its HTTP surface sees it. Every call is safe for
// concurrent use and ends when ctx does; errors are *Error where the caller
// can do something about them.
type Node interface {
	Status(ctx context.Context) (Status, error)
	Peers(ctx context.Context) ([]Peer, error)
	Models(ctx context.Context) ([]Model, error)
	// Overview is Status, Peers and Models in one.
	Overview(ctx context.Context) (Overview, error)
	// Checkup looks at this node from outside: it takes some seconds.
	Checkup(ctx context.Context) (Checkup, error)
	AddModel(ctx context.Context, r AddRequest, progress func(Progress)) (Model, error)
	PullModel(ctx context.Context, r PullRequest, progress func(Progress)) (Model, error)
	RemoveModel(ctx context.Context, ref string) (Model, error)
	// PinModel keeps a model's weights on this node's disk, or lets them go when
	// room is needed.
	PinModel(ctx context.Context, r PinRequest) (Model, error)
	// Plan says how a model is or would be split; with Load it also makes it ready.
	Plan(ctx context.Context, r PlanRequest, progress func(Progress)) (Plan, error)
	Invite(ctx context.Context, r InviteRequest) (Invite, error)
	Trust
	// Leave says goodbye to the mesh, forgets the membership and stops the node.
	Leave(ctx context.Context) error
	// Generate answers one request. emit is called in order from one
	// goroutine; an error from it cancels the reply. Cancelling ctx ends the
	// reply and frees its KV.
	Generate(ctx context.Context, r GenerateRequest, emit func(Event) error) (Reply, error)
	// WriteMetrics writes the Prometheus text format.
	WriteMetrics(ctx context.Context) ([]byte, error)
}

// Progress is one line about something that takes a while.
type Progress struct {
	Phase string  `json:"phase"`           // "join", "plan", "fetch", "pack", "load", "probe", "hash", "download", "queue", "prefill", "failover", "ready"
	Text  string  `json:"text"`            // for people: "loading layers 0-14 on nas"
	Node  string  `json:"node,omitempty"`  // whose progress it is
	Done  int64   `json:"done,omitempty"`  // of Total
	Total int64   `json:"total,omitempty"` // 0: unknown
	Unit  string  `json:"unit,omitempty"`  // "bytes" or "tokens"
	Rate  float64 `json:"rate,omitempty"`  // units per second
	// Notice is to stay on the screen: somebody has to do something.
	Notice string `json:"notice,omitempty"`
}

// Status is what `weft status --json` prints.
type Status struct {
	Version       string        `json:"version"`
	Contract      int           `json:"contract"`
	Wire          int           `json:"wire"`
	Name          string        `json:"name"`
	PeerID        string        `json:"peer_id,omitempty"`
	Home          string        `json:"home"`
	Mesh          string        `json:"mesh,omitempty"` // name and short id
	Role          string        `json:"role,omitempty"`
	Addrs         []string      `json:"addrs,omitempty"`
	HTTP          string        `json:"http,omitempty"`
	Uptime        time.Duration `json:"uptime_ns"`
	PID           int           `json:"pid"`
	Device        string        `json:"device"`
	GPUs          []GPU         `json:"gpus,omitempty"`
	NoGPU         string        `json:"no_gpu,omitempty"` // why there is none
	MemOffered    int64         `json:"memory_offered_bytes"`
	MemUsed       int64         `json:"memory_used_bytes"`
	RSS           int64         `json:"resident_bytes"`
	DiskUsed      int64         `json:"disk_used_bytes"`   // by weights in the store
	DiskBudget    int64         `json:"disk_budget_bytes"` // that they may take
	Peers         int           `json:"peers"`             // others that are alive
	Sessions      int           `json:"sessions"`
	DiskFree      int64         `json:"disk_free_bytes"` // on the volume of the store
	DiskTotal     int64         `json:"disk_total_bytes"`
	Generated     int64         `json:"generated_tokens"` // of all replies that this node headed
	TokensPerS    float64       `json:"tokens_per_s"`     // of those of now
	PositionsPerS float64       `json:"positions_per_s"`  // that this node's stages compute, for any head
	Replies       []ReplyState  `json:"replies,omitempty"`
	Stages        []LoadedStage `json:"stages,omitempty"`
	Plans         []PlanState   `json:"plans,omitempty"`
	Aside         []AsidePeer   `json:"set_aside,omitempty"` // nodes that are not asked for weights
}

// AsidePeer is a node that sent wrong weights and is not asked for any.
type AsidePeer struct {
	Name   string    `json:"name"`
	PeerID string    `json:"peer_id"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

// LoadedStage is a layer range that this node serves.
type LoadedStage struct {
	Model    string `json:"model"`
	First    int    `json:"first_layer"`
	Last     int    `json:"last_layer"`
	State    string `json:"state"`
	Bytes    int64  `json:"weight_bytes"`
	KVBlocks int    `json:"kv_blocks"`
	KVUsed   int    `json:"kv_blocks_used"`
	Sessions int    `json:"sessions"`
	// Parts say which layers lie on which device; none: all on the processor.
	Parts     []StagePart `json:"parts,omitempty"`
	StepUsec  int64       `json:"decode_step_us"` // moving average at width 1
	Generated int64       `json:"rows"`
}

// Peer is another node, or this one.
type Peer struct {
	Name          string        `json:"name"`
	PeerID        string        `json:"peer_id"`
	Self          bool          `json:"self"`
	State         string        `json:"state"` // "alive", "suspect", "left", "incompatible: why"
	Role          string        `json:"role"`
	Version       string        `json:"version"`
	Wire          int           `json:"wire"`
	Contract      int           `json:"contract"`
	Note          string        `json:"note,omitempty"` // about its version
	OS            string        `json:"os"`
	CPU           string        `json:"cpu"`
	Cores         int           `json:"cores"`
	Threads       int           `json:"threads"`
	Busy          float64       `json:"cpu_busy"` // part of the processors' time in use, 0 to 1
	Device        string        `json:"device"`
	DecodeBps     float64       `json:"decode_bytes_per_s"` // measured kernel speed
	PrefillOps    float64       `json:"prefill_ops_per_s"`
	MemTotal      int64         `json:"memory_total_bytes"`
	MemOffered    int64         `json:"memory_offered_bytes"`
	MemFree       int64         `json:"memory_free_bytes"` // of what is offered
	DiskFree      int64         `json:"disk_free_bytes"`   // on the volume of the store
	DiskTotal     int64         `json:"disk_total_bytes"`
	GPUs          []GPU         `json:"gpus,omitempty"`
	RTT           time.Duration `json:"rtt_ns"`
	RTTAge        time.Duration `json:"rtt_age_ns"`            // since it was measured last
	Bandwidth     float64       `json:"bandwidth_bytes_per_s"` // from it to here; 0: not measured
	Links         []PeerLink    `json:"links,omitempty"`       // as it measured them
	Addrs         []string      `json:"addrs,omitempty"`
	Models        []string      `json:"models,omitempty"`
	Held          []HeldModel   `json:"held,omitempty"`
	Sessions      int           `json:"sessions"`
	Queued        int           `json:"queued_sessions"`
	TokensPerS    float64       `json:"tokens_per_s"`    // of the replies that it heads
	PositionsPerS float64       `json:"positions_per_s"` // that its stages compute, for any head
	KVBytes       int64         `json:"kv_bytes"`        // reserved by its stages
	WeightBytes   int64         `json:"weight_bytes"`
	Age           time.Duration `json:"age_ns"` // of these values
	Stale         bool          `json:"stale"`
}

// Model is an entry of the store, or one that a peer holds.
type Model struct {
	Name       string     `json:"name"`
	Hash       string     `json:"hash"` // of the manifest, hex
	Arch       string     `json:"arch"`
	Params     int64      `json:"parameters"`
	Layers     int        `json:"layers"`
	FileBytes  int64      `json:"file_bytes"`
	DiskBytes  int64      `json:"disk_bytes"` // packed files of this node
	Context    int        `json:"context"`    // the profile's
	TrainedCtx int        `json:"trained_context"`
	KV         string     `json:"kv"`          // "f16" or "f32"
	ActBits    int        `json:"activations"` // 8 or 16
	Source     string     `json:"source"`      // file path, "hf:owner/repo", "pulled", or "peer"
	Holders    []string   `json:"holders,omitempty"`
	State      string     `json:"state"` // "" before anybody asks for it, else as PlanState's, the same on every node
	Default    bool       `json:"default"`
	Added      time.Time  `json:"added"`
	Pinned     bool       `json:"pinned"`              // its weights stay on this node's disk
	InUse      bool       `json:"in_use"`              // by this node's stages, or a command
	LastUsed   *time.Time `json:"last_used,omitempty"` // by this node's stages; nil: never
}

// AddRequest registers a GGUF file of this node under a name and a profile.
type AddRequest struct {
	Path    string `json:"path"`
	Name    string `json:"name,omitempty"`
	Context int    `json:"context,omitempty"`
	KV      string `json:"kv,omitempty"`
	ActBits int    `json:"activations,omitempty"`
}

// PinRequest names a model and says whether its weights stay.
type PinRequest struct {
	Model  string `json:"model"`
	Pinned bool   `json:"pinned"`
}

// PullRequest downloads a model: "hf:owner/repo[:quant]" or an http(s) URL.
type PullRequest struct {
	Ref     string `json:"ref"`
	Name    string `json:"name,omitempty"`
	SHA256  string `json:"sha256,omitempty"`
	Lazy    bool   `json:"lazy,omitempty"` // keep nothing here: each node fetches its own layers from the hub
	Context int    `json:"context,omitempty"`
	KV      string `json:"kv,omitempty"`
	ActBits int    `json:"activations,omitempty"`
}

// InviteRequest makes an invitation.
type InviteRequest struct {
	Uses    int           `json:"uses,omitempty"`       // default 1
	Expires time.Duration `json:"expires_ns,omitempty"` // default 1 h
	Role    string        `json:"role,omitempty"`       // default "compute"
}

// Invite is an invitation's token.
type Invite struct {
	Token   string    `json:"token"`
	Uses    int       `json:"uses"`
	Expires time.Time `json:"expires"`
}

// GenerateRequest asks for one reply. Exactly one of Messages, Prompt and
// Tokens is set. Pointers that are nil take the model's default.
type GenerateRequest struct {
	Model            string                     `json:"model,omitempty"`
	Messages         []chat.Message             `json:"messages,omitempty"`
	Tools            json.RawMessage            `json:"tools,omitempty"`
	TemplateArgs     map[string]json.RawMessage `json:"chat_template_kwargs,omitempty"`
	Prompt           *string                    `json:"prompt,omitempty"` // raw: no template
	Tokens           []int32                    `json:"tokens,omitempty"` // raw ids
	MaxTokens        int                        `json:"max_tokens,omitempty"`
	Context          int                        `json:"context,omitempty"` // positions to reserve; default as needed
	Temperature      *float64                   `json:"temperature,omitempty"`
	TopP             *float64                   `json:"top_p,omitempty"`
	TopK             *int                       `json:"top_k,omitempty"`
	MinP             *float64                   `json:"min_p,omitempty"`
	RepeatPenalty    float64                    `json:"repeat_penalty,omitempty"`
	PresencePenalty  float64                    `json:"presence_penalty,omitempty"`
	FrequencyPenalty float64                    `json:"frequency_penalty,omitempty"`
	LogitBias        map[int]float64            `json:"logit_bias,omitempty"`
	Seed             *uint64                    `json:"seed,omitempty"`
	Choice           int                        `json:"choice,omitempty"` // index among n choices: part of the random key
	Stop             []string                   `json:"stop,omitempty"`
	Logprobs         int                        `json:"logprobs,omitempty"` // 0: none; n: the chosen token's and n-1 alternatives
	IgnoreEOS        bool                       `json:"ignore_eos,omitempty"`
	NoPrefix         bool                       `json:"no_prefix,omitempty"`
	StateHash        bool                       `json:"state_hash,omitempty"`
	Speculate        string                     `json:"speculate,omitempty"`   // "off", "sync", "async" or "auto"; default the node's setting
	DraftModel       string                     `json:"draft_model,omitempty"` // a model of the library that drafts, or "none"; default the node's setting
	Tenant           string                     `json:"-"`                     // whose prefix cache: derived from the API key
}

// Event is a piece of a reply as it comes.
type Event struct {
	Progress *Progress `json:"progress,omitempty"`
	Start    *Start    `json:"start,omitempty"`
	Text     string    `json:"text,omitempty"` // to append
	Tokens   []Token   `json:"tokens,omitempty"`
}

// Start comes once, when the prompt has been tokenised and the plan is ready.
type Start struct {
	Model        string      `json:"model"`
	PromptTokens int         `json:"prompt_tokens"`
	Seed         uint64      `json:"seed"`
	Stages       []PlanStage `json:"stages"`
}

// Token is one token of a reply.
type Token struct {
	ID      int32   `json:"id"`
	Text    string  `json:"text"` // its piece; may be part of a character
	Bytes   []byte  `json:"bytes,omitempty"`
	Logprob float64 `json:"logprob,omitempty"`
	Top     []Token `json:"top,omitempty"`
}

// Reply is the whole of a reply: what `weft run --json` prints.
type Reply struct {
	Model        string       `json:"model"`
	PromptTokens []int32      `json:"prompt_tokens"`
	Tokens       []int32      `json:"tokens"`
	Text         string       `json:"text"`
	FinishReason string       `json:"finish_reason"` // "stop", "length", "cancelled"
	FinishDetail string       `json:"finish_detail,omitempty"`
	Seed         uint64       `json:"seed"`
	Cached       int          `json:"cached_tokens"` // prompt tokens taken from the prefix cache
	Timings      Timings      `json:"timings"`
	Plan         ReplyPlan    `json:"plan"`
	StateHash    string       `json:"state_hash,omitempty"` // of the last position's final hidden state, hex
	Logprobs     []Token      `json:"logprobs,omitempty"`
	Speculation  *Speculation `json:"speculation,omitempty"`
	Failovers    int          `json:"failovers"` // times that a stage was lost and the reply went on under another plan
}

// Timings are a reply's measured times.
type Timings struct {
	TTFTms     float64 `json:"ttft_ms"`
	PrefillTPS float64 `json:"prefill_tokens_per_s"`
	DecodeTPS  float64 `json:"decode_tokens_per_s"`
	Totalms    float64 `json:"total_ms"`
}

// ReplyPlan is who computed a reply.
type ReplyPlan struct {
	Generation uint64      `json:"generation,omitempty"`
	Stages     []PlanStage `json:"stages"`
}
