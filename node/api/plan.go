package api

// PlanState is a plan that this node heads or serves.
type PlanState struct {
	Model      string `json:"model"`
	Generation uint64 `json:"generation"`
	State      string `json:"state"` // "planning", "fetching 40%", "loading 40%", "probing", "ready", "degraded: why"
	// Copy says that it is a further plan of the model, made to share its replies.
	Copy    bool     `json:"copy,omitempty"`
	Nodes   []string `json:"nodes,omitempty"`   // names of its stages' nodes, in order
	Replies int      `json:"replies,omitempty"` // of this head
}

// PlanRequest names a model; with Load the plan is also loaded and probed.
type PlanRequest struct {
	Model string `json:"model"`
	Load  bool   `json:"load,omitempty"`
}

// Plan is what `weft plan --json` prints.
type Plan struct {
	Model      string      `json:"model"`
	Generation uint64      `json:"generation,omitempty"`
	State      string      `json:"state"` // "proposed" or a PlanState
	Stages     []PlanStage `json:"stages"`
	Head       string      `json:"head"` // name of the node that was asked
	TTFTms     float64     `json:"predicted_ttft_ms"`
	TPOTms     float64     `json:"predicted_tpot_ms"`
	MeasTTFTms float64     `json:"measured_ttft_ms,omitempty"`
	MeasTPOTms float64     `json:"measured_tpot_ms,omitempty"`
	Why        []string    `json:"why"`               // in words, one reason a line
	Replies    int         `json:"replies,omitempty"` // that it has now, of all heads
	Copies     []PlanCopy  `json:"copies,omitempty"`  // further plans of the model, which share its replies
}

// PlanCopy is a plan of a model beside the one that stands.
type PlanCopy struct {
	Generation uint64      `json:"generation,omitempty"`
	State      string      `json:"state"`
	Stages     []PlanStage `json:"stages"`
	TPOTms     float64     `json:"predicted_tpot_ms,omitempty"`
	MeasTPOTms float64     `json:"measured_tpot_ms,omitempty"`
	Replies    int         `json:"replies"` // that it has now, of all heads
}

// PlanStage is one layer range of a plan.
type PlanStage struct {
	Node     string  `json:"node"` // peer id
	Name     string  `json:"name"`
	First    int     `json:"first_layer"`
	Last     int     `json:"last_layer"` // inclusive
	Bytes    int64   `json:"weight_bytes,omitempty"`
	KVBytes  int64   `json:"kv_bytes,omitempty"`
	StepMs   float64 `json:"predicted_step_ms,omitempty"`
	HopMs    float64 `json:"hop_ms,omitempty"`
	MeasStep float64 `json:"measured_step_ms,omitempty"`
	// Parts say which layers lie on which device of the node, as it is predicted of
	// another node; none: all on the processor.
	Parts []StagePart `json:"parts,omitempty"`
}
