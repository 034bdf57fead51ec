package main

import (
	"strings"
	"testing"
	"time"

	"github.com/weft-mesh/weft/node/api"
)

func TestSettingsAreChecked(t *testing.T) {
	ok := settings{model: "m.gguf", rounds: 1, tokens: 8}
	if err := ok.parse("2,4", "0,1.5,40"); err != nil || len(ok.stages) != 2 || ok.rtts[1] != 1500*time.Microsecond {
		t.Errorf("%+v, %v", ok, err)
	}
	for name, c := range map[string]struct {
		s            settings
		stages, rtts string
	}{
		"no model":     {settings{rounds: 1, tokens: 8}, "2", "0"},
		"no rounds":    {settings{model: "m", tokens: 8}, "2", "0"},
		"no stages":    {settings{model: "m", rounds: 1, tokens: 8}, "", "0"},
		"odd delay":    {settings{model: "m", rounds: 1, tokens: 8}, "2", "fast"},
		"many stages":  {settings{model: "m", rounds: 1, tokens: 8}, "99", "0"},
		"a long delay": {settings{model: "m", rounds: 1, tokens: 8}, "2", "100000"},
	} {
		if err := c.s.parse(c.stages, c.rtts); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestTheReportHasEveryFigure(t *testing.T) {
	r := &report{settings: &settings{stages: []int{2}, rounds: 2, tokens: 8}, begin: time.Now()}
	for _, rtt := range []time.Duration{0, 10 * time.Millisecond} {
		for i := range 2 {
			for w, rate := range map[string]float64{"off": 10, "sync": 20, "async": 40, "auto": 40} {
				rep := api.Reply{Tokens: make([]int32, 11), Speculation: &api.Speculation{Accepted: 5, BoundShare: 0.9}}
				rep.Timings.DecodeTPS = rate + float64(i)
				r.add(2, rtt, kinds[0].name, w, rep)
			}
		}
		r.llama(2, rtt, []float64{5, 5})
	}
	r.besides = []beside{{2, time.Millisecond, []float64{100}, []float64{180}, []float64{50}, []float64{125}, []float64{110}}}
	text := r.section()
	for _, want := range []string{
		"| 2 | 10ms | copy-editing code | 10.5 (10.0–11.0) | 20.5 (20.0–21.0) | 40.5 (40.0–41.0) | 40.5 (40.0–41.0) | **3.86 (3.73–4.00)** |",
		"| 2 | 1ms | 100 | 180 | **1.80** | 50.0 | 125.0 | **2.50** | 110.0 | **2.20** |",
		"| 5.0 (5.0–5.0) | 8.10 (8.00–8.20) | 50% | 90% |", "line [40.5, 40.5]", `x-axis "round trip" ["0s", "10ms"]`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
	doc := "before\n" + written.Begin + "\nold\n" + written.End + "\nafter\n"
	if now, err := written.Replace(doc, text); err != nil || strings.Contains(now, "old") || !strings.HasSuffix(now, "after\n") {
		t.Errorf("%v: %s", err, now)
	}
}
