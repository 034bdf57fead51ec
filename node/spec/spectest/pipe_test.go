package spectest_test

import (
	"testing"
	"time"

	"github.com/weft-mesh/weft/node/spec"
	"github.com/weft-mesh/weft/node/spec/spectest"
)

const ms = time.Millisecond

func TestPlainDecodingTakesEveryHopAndEveryStage(t *testing.T) {
	p := spectest.Pipe{Stages: 3, Step: func(int, int) time.Duration { return 4 * ms }, Hop: func(int) time.Duration { return 5 * ms }}
	o, err := p.Reply(spectest.Truth(21, 1), 1, spec.New(spec.Options{Mode: spec.ModeOff}))
	if err != nil {
		t.Fatal(err)
	}
	if want := 3*4*ms + 4*5*ms; o.PerToken() != want || o.Wasted != 0 {
		t.Errorf("%v a token, %d rows wasted; want %v and none", o.PerToken(), o.Wasted, want)
	}
}

func TestAPipeOfRightDraftsGivesARunEachStep(t *testing.T) {
	p := spectest.Pipe{Stages: 4, Step: func(i, rows int) time.Duration { return 4 * ms }, Hop: func(int) time.Duration { return 10 * ms }}
	truth := spectest.Truth(401, 1)
	right := spectest.NewOracle(truth, 1, func(int) float64 { return 1 })
	o, err := p.Reply(truth, 1, spec.New(spec.Options{Sources: []spec.Source{right}, Fixed: spec.Window{Width: 2, Runs: 20}}))
	if err != nil {
		t.Fatal(err)
	}
	if per := o.PerToken(); per < 2*ms || per > 2*ms+500*time.Microsecond {
		t.Errorf("%v a token; two tokens each 4 ms were expected", per)
	}
	if o.Report.Accepted < 395 || o.Report.Drafted != o.Report.Accepted {
		t.Errorf("report %+v", o.Report)
	}
}

func TestAWrongDraftCostsALatencyAndNoToken(t *testing.T) {
	p := spectest.Pipe{Stages: 2, Step: func(i, rows int) time.Duration { return 4 * ms }, Hop: func(int) time.Duration { return 10 * ms }}
	truth := spectest.Truth(201, 1)
	wrong := spectest.NewOracle(truth, 1, func(int) float64 { return 0 })
	o, err := p.Reply(truth, 1, spec.New(spec.Options{Sources: []spec.Source{wrong}, Fixed: spec.Window{Width: 2, Runs: 8}}))
	if err != nil {
		t.Fatal(err)
	}
	plain := 2*4*ms + 3*10*ms
	if per := o.PerToken(); per < plain || per > plain+4*ms {
		t.Errorf("%v a token; a plain one takes %v, and at most a step more was expected", per, plain)
	}
	if o.Report.Accepted != 0 {
		t.Errorf("report %+v", o.Report)
	}
}
