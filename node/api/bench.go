package api

import "context"

// BenchOptions is what `weft bench` is to measure. Every field is set: the
// command line knows the defaults.
type BenchOptions struct {
	Home     string // whose store has the model
	Model    string // name, name@hash, GGUF file, or "" for the only or the last used one
	Prompt   []int  // lengths of prompts; each is a test
	Gen      int    // tokens to decode in a test; 0 leaves decoding out
	Depth    int    // tokens of context before what is measured
	Threads  []int  // threads; each has a device and a stage of its own
	Devices  string // "cpu", "all", or devices as of Config.Devices, each with a stage of its own
	Version  string // of the build: what was found out about devices is kept for it
	Parallel []int  // sessions that decode at once; each is a test
	Contexts []int  // contexts, of made-up keys and values, behind which decode is measured too
	Act      int    // bits of activations: 8 or 16, or 0 for those of the model's entry
	Repeat   int    // samples of each test
}

// BenchReport is what `weft bench --json` prints.
type BenchReport struct {
	Model       string         `json:"model"`
	WeightBytes int64          `json:"weight_bytes"` // that a decode step reads
	Profile     string         `json:"profile"`
	Machine     []BenchMachine `json:"machine"`
	Results     []BenchResult  `json:"results"`
	Contexts    []BenchContext `json:"contexts,omitempty"`
}

// BenchMachine is what the machine itself can do with so many threads.
type BenchMachine struct {
	Threads int    `json:"threads"`      // 0: it is no processor
	ID      string `json:"id,omitempty"` // "cuda:0", of one that is no processor
	Device  string `json:"device"`
	// ReadBps is the best streaming read of memory that no cache holds; of a device
	// that is no processor, of weights by a product of one row.
	ReadBps float64 `json:"read_bytes_per_s"`
	// ProductOps is the best rate of weft's own product kernels on a small hot
	// matrix, a multiply-add being two operations. It is less than what the
	// processor's data sheet promises.
	ProductOps float64 `json:"product_ops_per_s"`
}

// BenchResult is one test: prefill of NPrompt tokens, or NGen decoded tokens in
// each of Parallel sessions.
type BenchResult struct {
	Model     string    `json:"model"`
	Threads   int       `json:"threads"`
	Device    string    `json:"device,omitempty"` // as BenchMachine.ID
	Parallel  int       `json:"parallel"`
	NPrompt   int       `json:"n_prompt"`
	NGen      int       `json:"n_gen"`
	Depth     int       `json:"depth"`
	TokensPS  float64   `json:"tokens_per_s"` // of all sessions; mean of the samples
	Deviation float64   `json:"stddev"`
	Median    float64   `json:"median"`
	Samples   []float64 `json:"samples"`

	// Of the median: bytes of weights read and operations of matrix products.
	WeightsBps   float64 `json:"weight_bytes_per_s"`
	MemoryShare  float64 `json:"memory_share"` // of the machine's ReadBps; above 1 when caches hold the weights
	Ops          float64 `json:"ops_per_s"`
	ProductShare float64 `json:"product_share"` // of the machine's ProductOps

	// BytesBack is what comes back from a card for each token.
	BytesBack float64 `json:"bytes_back_per_token,omitempty"`
}

// BenchContext is decode of one session behind a context.
type BenchContext struct {
	Threads  int       `json:"threads"`
	Device   string    `json:"device,omitempty"` // as BenchMachine.ID
	Context  int       `json:"context"`          // tokens
	Micros   float64   `json:"us_per_token"`     // the least of the samples
	TokensPS float64   `json:"tokens_per_s"`     // of that
	KVBytes  int64     `json:"kv_bytes"`         // keys and values that a token reads
	Samples  []float64 `json:"samples"`          // microseconds a token

	// The rate at which keys and values are read beyond those of the shortest
	// context, in the time beyond its; 0 for that one.
	KVBps       float64 `json:"kv_bytes_per_s"`
	MemoryShare float64 `json:"memory_share"` // of the machine's ReadBps
}

// Bencher measures a model in this process; the command line is given one.
// progress is called from the caller's goroutine.
type Bencher func(ctx context.Context, o BenchOptions, progress func(Progress)) (BenchReport, error)
