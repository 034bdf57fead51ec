package node

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/p2p/admission"
)

func TestAMachineThatMeetsABusyMeshTriesAgainAndSaysSo(t *testing.T) {
	wrong := errors.New("the token is wrong")
	for name, c := range map[string]struct {
		busy  error
		times int
		then  error
		want  error
	}{
		"not busy":                 {nil, 0, nil, nil},
		"busy for a while":         {admission.ErrBusy, 5, nil, nil},
		"three wait for a while":   {admission.ErrPorchFull, 40, nil, nil},
		"busy, then another fault": {admission.ErrBusy, 2, wrong, wrong},
		"another fault at once":    {nil, 0, wrong, wrong},
		"busy for ever":            {admission.ErrPorchFull, 1 << 30, nil, admission.ErrPorchFull},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tries, notices, notes := 0, 0, 0
				begin := time.Now()
				err := whileBusy(t.Context(), func(p api.Progress) {
					notes++
					if p.Notice != "" {
						notices++
					}
				}, func() error {
					if tries++; tries <= c.times {
						return api.Errorf(api.KindForbidden, "join the mesh: %w", fmt.Errorf("join: %w", c.busy))
					}
					return c.then
				})
				if c.want == nil && err != nil || c.want != nil && !errors.Is(err, c.want) {
					t.Errorf("it ended with %v", err)
				}
				if notices != min(c.times, 1) || c.times < 1<<30 && notes != c.times {
					t.Errorf("%d notices and %d notes for %d busy answers", notices, notes, c.times)
				}
				if d := time.Since(begin); d > busyTime {
					t.Errorf("it took %v", d)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		err := whileBusy(ctx, func(api.Progress) {}, func() error { return admission.ErrBusy })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("given up by its caller it ended with %v", err)
		}
	})
}
