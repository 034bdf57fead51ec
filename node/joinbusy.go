package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/p2p/admission"
)

// Members let few machines in at a time. One that meets a busy member waits and
// tries again, for as long as a code that stands before it may live.
const (
	busyTime  = admission.CodeLife + 30*time.Second
	busyPause = 2 * time.Second
)

// whileBusy does try until it gives anything but that members are busy with
// others, or the time is over, and says so meanwhile.
func whileBusy(ctx context.Context, progress func(api.Progress), try func() error) error {
	deadline := time.Now().Add(busyTime)
	told := false
	for {
		err := try()
		if !errors.Is(err, admission.ErrBusy) && !errors.Is(err, admission.ErrPorchFull) {
			return err
		}
		if !time.Now().Add(busyPause).Before(deadline) {
			return api.Errorf(api.KindUnavailable, "%w; tried for %v: start this machine again when the others are in", err, busyTime)
		}
		p := api.Progress{Phase: "join", Text: "other machines are being let in: trying again"}
		if !told {
			p.Notice = fmt.Sprintf("The mesh is busy with other machines that want to join.\nThis one tries again for up to %v; Ctrl-C gives up.", busyTime)
			told = true
		}
		progress(p)
		select {
		case <-time.After(busyPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
