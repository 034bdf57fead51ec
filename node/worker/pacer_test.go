package worker_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weft-mesh/weft/node/worker"
)

func TestAPacerHoldsToTheBoundOfTheMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bound := 0.0
		p := worker.NewPacer(func() float64 { return bound })
		take := func(bytes int) time.Duration {
			begin := time.Now()
			for bytes > 0 {
				n, err := p.Wait(t.Context(), bytes)
				if err != nil || n < 1 || n > bytes || bound > 0 && float64(n) > max(bound/500, 4096) {
					t.Fatalf("a piece of %d of %d bytes under a bound of %v: %v", n, bytes, bound, err)
				}
				bytes -= n
			}
			return time.Since(begin)
		}
		if d := take(100 << 20); d != 0 {
			t.Errorf("without a bound it took %v", d)
		}
		bound = 10e6
		if d := take(20e6); d < 1900*time.Millisecond || d > 2100*time.Millisecond {
			t.Errorf("20 MB at 10 MB/s took %v", d)
		}
		bound = 0
		if d := take(100 << 20); d != 0 {
			t.Errorf("once the bound is gone it took %v", d)
		}
		bound = 1
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for range 300 {
			if _, err := p.Wait(ctx, 4096); err != nil {
				return
			}
		}
		t.Error(errors.New("it does not end with its context"))
	})
}
