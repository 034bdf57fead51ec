package worker

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/shard"
)

const (
	decodeClass  = weftv1.Class_CLASS_DECODE
	prefillClass = weftv1.Class_CLASS_PREFILL
)

func item(ses *session, rows, sample int) *work {
	return &work{ses: ses, run: &weftv1.Run{Sample: uint32(sample)}, tokens: make([]int32, rows)}
}

func rowsOf(step []*work) (n int) {
	for _, w := range step {
		n += w.take
	}
	return n
}

func TestDecodeGoesBeforePrefillAndPrefillIsCut(t *testing.T) {
	a, b := &session{}, &session{}
	q := queue{maxRows: 64}
	long := item(a, 100, 1)
	q.add(long, prefillClass)
	d := item(b, 1, 1)
	q.add(d, decodeClass)
	step := q.compose(nil, 32)
	if len(step) != 2 || step[0] != d || step[1] != long || long.take != 32 {
		t.Fatalf("first step: %v", step)
	}
	if long.sampling() != shard.SampleNone || d.sampling() != shard.SampleAll {
		t.Errorf("sampling %d and %d", long.sampling(), d.sampling())
	}
	q.settle(step)
	step = q.compose(nil, 64)
	if len(step) != 1 || long.take != 64 {
		t.Fatalf("second step: %v", step)
	}
	q.settle(step)
	step = q.compose(nil, 64)
	if len(step) != 1 || long.take != 4 || long.sampling() != shard.SampleLast {
		t.Fatalf("last step: %v", step)
	}
	q.settle(step)
	if !q.empty() || a.prefills != 0 {
		t.Errorf("left: %+v, %d", q, a.prefills)
	}
}

func TestAStepTakesOnePrefillRunOfEachSessionWhereAStageFollows(t *testing.T) {
	a, b := &session{}, &session{}
	for _, onward := range []bool{false, true} {
		q := queue{maxRows: 64, onward: onward}
		first, second, other := item(a, 16, 0), item(a, 16, 0), item(b, 16, 0)
		for _, w := range []*work{first, second, other} {
			q.add(w, prefillClass)
		}
		step := q.compose(nil, 64)
		if want := map[bool]int{false: 48, true: 32}[onward]; rowsOf(step) != want || step[0] != first || slices.Contains(step, second) == onward {
			t.Errorf("onward %v: a step of %d rows, %d were expected", onward, rowsOf(step), want)
		}
		q.settle(step)
		a.prefills, b.prefills = 0, 0
	}
}

func TestARunThatDrawsEverywhereIsNeverCut(t *testing.T) {
	a, b := &session{}, &session{}
	q := queue{maxRows: 64}
	q.add(item(a, 60, 0), prefillClass)
	verify := item(b, 20, 20)
	q.add(verify, prefillClass)
	step := q.compose(nil, 64)
	if len(step) != 1 || rowsOf(step) != 60 {
		t.Fatalf("step: %v", step)
	}
	q.settle(step)
	if step = q.compose(nil, minPrefill); len(step) != 1 || verify.take != 20 || verify.sampling() != shard.SampleAll {
		t.Fatalf("step: %v", step)
	}
}

func TestEverySessionsRunsKeepTheirOrderAndAllAreComputed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := queue{maxRows: rapid.IntRange(16, 80).Draw(t, "max"), onward: rapid.Bool().Draw(t, "onward")}
		sessions := make([]*session, rapid.IntRange(1, 4).Draw(t, "sessions"))
		order := map[*session][]*work{}
		for i := range sessions {
			sessions[i] = &session{}
		}
		rows := 0
		for range rapid.IntRange(1, 20).Draw(t, "runs") {
			ses := rapid.SampledFrom(sessions).Draw(t, "session")
			n := rapid.IntRange(1, 40).Draw(t, "rows")
			class := rapid.SampledFrom([]weftv1.Class{decodeClass, prefillClass}).Draw(t, "class")
			sample := rapid.SampledFrom([]int{0, 1, n}).Draw(t, "sample")
			if class == decodeClass || sample == n {
				n = min(n, 16)
				sample = min(sample, n)
			}
			w := item(ses, n, sample)
			order[ses] = append(order[ses], w)
			rows += n
			q.add(w, class)
		}
		done := map[*work]int{}
		for steps := 0; !q.empty(); steps++ {
			if steps > 2000 {
				t.Fatal("no end")
			}
			step := q.compose(nil, rapid.IntRange(0, 80).Draw(t, "prefill"))
			if n := rowsOf(step); n == 0 || n > q.maxRows {
				t.Fatalf("step of %d rows", n)
			}
			for _, w := range step {
				if w.take <= 0 || (w.whole() && w.take != len(w.tokens)) {
					t.Fatalf("took %d of %d", w.take, len(w.tokens))
				}
				for _, before := range order[w.ses] {
					if before == w {
						break
					}
					if done[before] != len(before.tokens) {
						t.Fatal("a run overtook one of its session")
					}
				}
				done[w] += w.take
			}
			q.settle(step)
		}
		total := 0
		for _, n := range done {
			total += n
		}
		if total != rows {
			t.Fatalf("%d of %d rows", total, rows)
		}
		for _, s := range sessions {
			if s.prefills != 0 {
				t.Fatalf("%d runs are counted", s.prefills)
			}
		}
	})
}

func TestTheMeterSizesPrefillByItsTime(t *testing.T) {
	var m meter
	if n := m.prefillRows(30*time.Millisecond, 256); n != 4*minPrefill {
		t.Errorf("%d rows before anything is known", n)
	}
	for range 50 {
		m.add(128, 128, 128*time.Millisecond)
	}
	if n := m.prefillRows(30*time.Millisecond, 256); n != 16 {
		t.Errorf("%d rows of 1 ms in 30 ms", n)
	}
	if n := m.prefillRows(100*time.Millisecond, 256); n != 96 {
		t.Errorf("%d rows of 1 ms in 100 ms", n)
	}
	if n := m.prefillRows(time.Millisecond, 256); n != minPrefill {
		t.Errorf("%d rows of 1 ms in 1 ms", n)
	}
	if n := m.prefillRows(time.Minute, 256); n != 256 {
		t.Errorf("%d rows in a minute", n)
	}
	for rows, class := range map[int]int{1: 0, 2: 1, 3: 2, 4: 2, 5: 3, 256: 8, 1 << 20: widths - 1} {
		if got := widthClass(rows); got != class {
			t.Errorf("width %d is in class %d, want %d", rows, got, class)
		}
	}
}

func TestAStepTakesOneDecodeRunOfEachSession(t *testing.T) {
	a, b := &session{}, &session{}
	q := queue{maxRows: 64}
	run := func(s *session, n int) *work {
		w := item(s, n, n)
		q.add(w, decodeClass)
		return w
	}
	a1, a2, b1, a3, b2 := run(a, 2), run(a, 3), run(b, 1), run(a, 2), run(b, 1)
	for i, want := range [][]*work{{a1, b1}, {a2, b2}, {a3}} {
		got := q.compose(nil, 64)
		if !slices.Equal(got, want) {
			t.Fatalf("step %d takes %d runs, %d were expected", i, len(got), len(want))
		}
		q.settle(got)
	}
	if !q.empty() {
		t.Error("runs are left")
	}
}
