package shard

import "fmt"

// FaultError says that the arithmetic contract refused a value of a run.
type FaultError struct {
	Layer    int    // of the model, or -1 outside the layers
	Op       string // "norm", "quantise", "kv", "attention" or "logits"
	Position int    // of the row in its session
}

// Error names layer, operation and position, and what can be done.
func (e *FaultError) Error() string {
	where := "outside the layers"
	if e.Layer >= 0 {
		where = fmt.Sprintf("in layer %d", e.Layer)
	}
	hint := "the model's file may be damaged"
	if e.Op == "kv" {
		hint = "the model's keys or values are too large for f16: add it with --kv f32"
	}
	return fmt.Sprintf("%s %s met a value that is not finite, at position %d; %s", e.Op, where, e.Position, hint)
}
