package node_test

import (
	"testing"

	"github.com/weft-mesh/weft/node"
)

// TestPromptsAreCutSoThatAllStagesAreBusy reckons how much faster a prompt is
// read over stages than by one, if a run takes as long as it has positions.
func TestPromptsAreCutSoThatAllStagesAreBusy(t *testing.T) {
	for _, c := range []struct {
		prompt, stages int
		least          float64
	}{{512, 2, 1.7}, {1000, 2, 1.7}, {2048, 2, 1.85}, {4096, 4, 3.4}, {512, 4, 3.2}, {100, 2, 1.2}} {
		piece := node.PieceOf(c.prompt, c.stages, 128)
		runs := (c.prompt + piece - 1) / piece
		if gain := float64(c.prompt*c.stages) / float64(piece*(runs+c.stages-1)); piece > 128 || gain < c.least {
			t.Errorf("%d positions over %d stages in runs of %d: %.2f times as fast as one, at least %.2f was expected", c.prompt, c.stages, piece, gain, c.least)
		}
	}
	if piece := node.PieceOf(7, 2, 16); piece > 16 {
		t.Errorf("runs of %d positions where 16 are possible", piece)
	}
}
