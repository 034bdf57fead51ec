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

// GPU is a graphics processor as the system reports it.
type GPU struct {
	Name      string `json:"name"`
	Vendor    string `json:"vendor"`
	VRAMTotal int64  `json:"vram_total_bytes"`
	VRAMFree  int64  `json:"vram_free_bytes"`
	Driver    string `json:"driver,omitempty"`
	Shared    bool   `json:"shared_memory,omitempty"` // it has no memory of its own
	Used      bool   `json:"used"`                    // weft computes on it
	Reason    string `json:"reason,omitempty"`        // why not
}
