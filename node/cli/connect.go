package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/weft-mesh/weft/node/api"
)

// connection is a client of a daemon, or of a node that this command started
// for itself.
type connection struct {
	*api.Client
	solo api.Running // nil when a daemon answers
}

func (c *connection) close() {
	_ = c.Client.Close()
	if c.solo != nil {
		_ = c.solo.Close()
	}
}

// daemon connects to the node of this home.
func (c *command) daemon() (*connection, error) {
	cl, err := api.Dial(c.home)
	if errors.Is(err, api.ErrNoDaemon) {
		return nil, fmt.Errorf("no weft is running for %s: start it with `weft up`", shortHome(c.home))
	}
	if err != nil {
		return nil, err
	}
	return &connection{Client: cl}, nil
}

// connect connects to the node of this home or, where none runs, starts one
// inside this process that is in no mesh.
func (c *command) connect(ctx context.Context, progress func(api.Progress)) (*connection, error) {
	cl, err := api.Dial(c.home)
	if err == nil {
		return &connection{Client: cl}, nil
	}
	if !errors.Is(err, api.ErrNoDaemon) {
		return nil, err
	}
	r, err := c.Start(ctx, api.Config{Home: c.home, Solo: true, Version: c.Version}, progress)
	if err != nil {
		return nil, interrupted(ctx, err)
	}
	if cl, err = api.DialSocket(r.Socket()); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return &connection{Client: cl, solo: r}, nil
}

// with runs f with a node and shows its progress.
func (c *command) with(ctx context.Context, f func(ctx context.Context, n api.Node, progress func(api.Progress)) error) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	show := newProgress(c.err)
	defer show.stop()
	n, err := c.connect(ctx, show.update)
	if err != nil {
		return err
	}
	defer n.close()
	err = f(ctx, n, show.update)
	show.stop()
	return interrupted(ctx, err)
}

// ask runs f with the daemon.
func (c *command) ask(ctx context.Context, f func(ctx context.Context, n api.Node) error) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	n, err := c.daemon()
	if err != nil {
		return err
	}
	defer n.close()
	return interrupted(ctx, f(ctx, n))
}
