package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/cli/doctor"
	"github.com/weft-mesh/weft/node/machine"
)

// errUnwell ends `weft doctor` after a failure was printed.
var errUnwell = errors.New("something stands in the way: see the lines marked fail")

// meshPort is where a node listens unless it is told.
const meshPort = ":4710"

func (c *command) doctor() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find what stands in the way of this node",
		Long: `Looks at this machine and, where a node runs, has its peers look at it:
the daemon and its version, the state directory, disk, memory and limits,
graphics cards, whether peers can connect to this node's port, clocks, multicast,
MTU and large packets. Each line is ok, skip (could not be looked at), warn or
fail, and says the way out. The exit status is 1 after a fail.`,
		Example: `  weft doctor
  weft doctor --json`,
	}
	cmd.Args = usageArgs(nil)
	cmd.AddCommand(c.doctorGPU())
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		show := newProgress(c.err)
		defer show.stop()
		show.update(api.Progress{Phase: "doctor", Text: "looking at this machine and asking its peers"})
		checks := doctor.Judge(c.facts(ctx))
		show.stop()
		if ctx.Err() != nil {
			return errInterrupted
		}
		return c.showChecks(checks, *asJSON)
	}
	return cmd
}

// facts gathers what the doctor judges. It changes nothing but for a file in the
// state directory that comes and goes.
func (c *command) facts(ctx context.Context) doctor.Facts {
	f := doctor.Facts{
		OS: runtime.GOOS, Version: c.Version, Machine: machine.Facts(ctx, existing(c.home)), Limits: machine.ProcessLimits(),
		Interfaces: machine.Interfaces(), Home: machine.HomeState(c.home),
	}
	n, err := c.daemon()
	if err != nil {
		f.NoDaemon, f.Port = oneLine(err.Error()), portFree()
		return f
	}
	defer n.close()
	o, err := n.Overview(ctx)
	if err != nil {
		f.NoDaemon = oneLine(err.Error())
		return f
	}
	f.Daemon = &o
	k, err := n.Checkup(ctx)
	if err != nil {
		f.NoCheckup = oneLine(err.Error())
		return f
	}
	f.Checkup = &k
	return f
}

// portFree says why the default port cannot be had.
func portFree() error {
	l, err := net.Listen("tcp", meshPort)
	if err != nil {
		return err
	}
	return l.Close()
}

func (c *command) showChecks(checks []doctor.Check, asJSON bool) error {
	worst := doctor.Worst(checks)
	if asJSON {
		if err := c.printJSON(struct {
			Worst  doctor.Grade   `json:"worst"`
			Checks []doctor.Check `json:"checks"`
		}{worst, checks}); err != nil {
			return err
		}
	} else {
		const name = 15
		for _, k := range checks {
			indent := fmt.Sprintf("%*s", 6+name+2, "")
			fmt.Fprintf(c.out, "%-4s  %-*s  %s\n", k.Grade, name, k.Name, wrapRest(clean(k.Text), c.out.width(), indent))
			if k.Fix != "" {
				fmt.Fprintf(c.out, "%s%s\n", indent, wrapRest("→ "+clean(k.Fix), c.out.width(), indent))
			}
		}
	}
	if worst == doctor.Fail {
		return errUnwell
	}
	return nil
}
