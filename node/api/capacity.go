package api

import "time"

// Overview is all that `weft top` shows, in one answer.
type Overview struct {
	Status Status  `json:"status"`
	Peers  []Peer  `json:"peers"`
	Models []Model `json:"models"`
}

// ReplyState is a reply that the node heads now.
type ReplyState struct {
	Model        string        `json:"model"`
	PromptTokens int           `json:"prompt_tokens"`
	Tokens       int           `json:"tokens"`
	Queued       bool          `json:"queued"`       // it waits for room on the nodes
	TokensPerS   float64       `json:"tokens_per_s"` // since the first one
	Age          time.Duration `json:"age_ns"`
	Silent       time.Duration `json:"silent_ns"` // since the last token; 0 before the first
}

// HeldModel is a model of which a node has tensors.
type HeldModel struct {
	Name     string   `json:"name"`
	Layers   int      `json:"layers"` // of the whole model
	Complete bool     `json:"complete"`
	Ranges   [][2]int `json:"held_layers"` // first and last, inclusive
	Bytes    int64    `json:"bytes"`
}

// PeerLink is a link as the node at its receiving end measured it.
type PeerLink struct {
	PeerID    string        `json:"peer_id"` // of the sending end
	Name      string        `json:"name"`
	RTT       time.Duration `json:"rtt_ns"`
	Bandwidth float64       `json:"bandwidth_bytes_per_s"` // 0: not measured
}

// GPU is a graphics processor as the system and its drivers report it.
type GPU struct {
	ID        string `json:"id,omitempty"` // as --device takes it: "cuda:0"; none where no driver that weft speaks to knows it
	Name      string `json:"name"`
	Vendor    string `json:"vendor"`
	VRAMTotal int64  `json:"vram_total_bytes"`
	VRAMFree  int64  `json:"vram_free_bytes"`
	Driver    string `json:"driver,omitempty"`
	Shared    bool   `json:"shared_memory,omitempty"` // it has no memory of its own
	Used      bool   `json:"used"`                    // weft computes on it
	Reason    string `json:"reason,omitempty"`        // why not

	// Of one that is used.
	Room       int64   `json:"stage_bytes,omitempty"`        // that stages may take in all
	Held       int64   `json:"stage_bytes_used,omitempty"`   // that stages in use have
	DecodeBps  float64 `json:"decode_bytes_per_s,omitempty"` // measured
	PrefillOps float64 `json:"prefill_ops_per_s,omitempty"`

	Celsius float64 `json:"celsius,omitempty"` // 0: not known
	Watts   float64 `json:"watts,omitempty"`
}

// StagePart is a run of a stage's layers on one of its node's devices.
type StagePart struct {
	Device string `json:"device"` // its name, or "processor"
	First  int    `json:"first_layer"`
	Last   int    `json:"last_layer"`
}
