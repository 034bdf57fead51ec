package session

import (
	"context"
	"errors"
	"fmt"
)

// maxFruitless is how many paths in a row a reply may lose without a token from
// any of them, before it is given up.
const maxFruitless = 5

// run drives the reply over one path after the other until it has ended.
func (d *Driver) run(ctx context.Context) error {
	for {
		err := d.over(ctx)
		if errors.Is(err, errFaulted) {
			d.plain, d.hasRoom = true, false
			d.s.Plain()
			d.s.Reopen()
			continue
		}
		if err == nil || ctx.Err() != nil || !d.lost(err) {
			return err
		}
		done, err := d.failover(ctx, err)
		if err != nil || done {
			return err
		}
	}
}

// lost says whether err is the path's end, which another path makes good.
func (d *Driver) lost(err error) bool {
	end := d.path.Err()
	return end != nil && errors.Is(err, end) && !errors.Is(err, errFlood)
}

// failover moves the reply to another path; true when it has ended meanwhile.
// What was drawn before the loss is handed on first: nobody waits for it.
func (d *Driver) failover(ctx context.Context, cause error) (bool, error) {
	d.hasRoom = false
	d.s.Reopen()
	if done, err := d.act(); err != nil || done {
		return done, err
	}
	d.fruitless++
	switch {
	case d.spec.Failover == nil:
		return false, cause
	case d.fruitless > maxFruitless:
		return false, fmt.Errorf("%d plans were lost one after the other: %w", d.fruitless, cause)
	}
	path, err := d.spec.Failover(ctx, cause)
	if err != nil {
		return false, err
	}
	d.path = path
	d.out.Failovers++
	return false, nil
}
