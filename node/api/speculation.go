package api

import "github.com/weft-mesh/weft/node/spec"

// CheckSpeculate refuses what is no way of speculation.
func CheckSpeculate(s string) error {
	_, err := spec.ParseMode(s)
	return err
}

// Speculation is what drafting did for a reply. It changes the reply's time and
// never its bytes.
type Speculation struct {
	Source             string  `json:"source"`               // whose drafts were accepted most, "" when none were: "suffix", "ngram", "model"
	Drafted            int     `json:"drafted"`              // tokens sent as drafts
	Accepted           int     `json:"accepted"`             // of those
	AcceptedByPosition []int   `json:"accepted_by_position"` // accepted tokens by how many drafted ones stood in a row before them; the last place is for all beyond
	Runs               int     `json:"runs"`                 // decode runs
	BoundShare         float64 `json:"bound_share"`          // least time that the stages and links allow at this acceptance, of the time it took
}
