package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"

	"github.com/weft-mesh/weft/node/api"
)

// Times of the live screen.
const (
	topEvery   = time.Second
	topFastest = 500 * time.Millisecond
	topAnswer  = 5 * time.Second // for one answer of the daemon
)

func (c *command) top() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch the mesh: nodes, links, replies, models",
		Long: `Shows the mesh as this machine's node sees it, renewed every second:
nodes with load, tokens/s, memory, round trip and bandwidth; replies that run;
models and their states; the stages of this node.

Keys: q quits, l shows all links, arrows and page keys scroll. Where output is
no terminal, or with --once, one snapshot is printed. NO_COLOR is honoured.`,
		Example: `  weft top
  weft top --once
  weft top --json`,
	}
	once := cmd.Flags().Bool("once", false, "print one snapshot")
	every := cmd.Flags().Duration("every", topEvery, "time between two looks")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *every < topFastest {
			return usageError{fmt.Errorf("--every is %v; give %v or more", *every, topFastest)}
		}
		if *asJSON || *once || !c.out.tty || !isTerminal(c.in) {
			return c.ask(cmd.Context(), func(ctx context.Context, n api.Node) error { return c.topOnce(ctx, n, *asJSON) })
		}
		return c.watch(cmd.Context(), *every)
	}
	return cmd
}

func (c *command) topOnce(ctx context.Context, n api.Node, asJSON bool) error {
	o, err := n.Overview(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		o.Peers, o.Models = orEmpty(o.Peers), orEmpty(o.Models)
		return c.printJSON(o)
	}
	m := newTopModel(nil, topEvery, false)
	m.links = true
	m.width = c.out.width()
	m.take(o, time.Now())
	_, err = io.WriteString(c.out, m.snapshot())
	return err
}

// watch runs the live screen until the user quits.
func (c *command) watch(ctx context.Context, every time.Duration) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	d := &dialer{command: c}
	defer d.close()
	// The first look is made before the screen is taken, so that a wrong home
	// is an error of the command and not a page that waits.
	if _, err := d.look(ctx); err != nil {
		return interrupted(ctx, err)
	}
	colour := os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	m := newTopModel(func() (api.Overview, error) { return d.look(ctx) }, every, colour)
	_, err := tea.NewProgram(m, tea.WithContext(ctx), tea.WithInput(c.in), tea.WithOutput(c.out.w), tea.WithFPS(10)).Run()
	if errors.Is(err, tea.ErrProgramKilled) && ctx.Err() != nil || errors.Is(err, tea.ErrInterrupted) {
		return nil // Ctrl-C is how people leave such a screen
	}
	return err
}

// dialer asks the daemon, connecting anew after a failure. One goroutine at a
// time uses it: the model has never two looks under way.
type dialer struct {
	*command
	conn *connection
}

func (d *dialer) look(ctx context.Context) (api.Overview, error) {
	if d.conn == nil {
		n, err := d.daemon()
		if err != nil {
			return api.Overview{}, err
		}
		d.conn = n
	}
	ctx, cancel := context.WithTimeout(ctx, topAnswer)
	defer cancel()
	o, err := d.conn.Overview(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("the daemon has not answered for %v", topAnswer)
	}
	if err != nil {
		d.close()
	}
	return o, err
}

func (d *dialer) close() {
	if d.conn != nil {
		d.conn.close()
		d.conn = nil
	}
}
