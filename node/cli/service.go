package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/cli/service"
	"github.com/weft-mesh/weft/node/machine"
)

// serviceFlags are the settings of `weft service` as they were typed.
type serviceFlags struct {
	system bool
	user   string
}

func (c *command) service() *cobra.Command {
	var f serviceFlags
	cmd := &cobra.Command{
		Use:   "service",
		Short: "Have the system start this machine's node",
		Long: `Makes the node a service: a unit of systemd on Linux, a job of launchd on
macOS. It is the user's and starts at login; with --system it is the machine's
and starts at boot (run it with sudo; the node still runs as you).

What follows -- is given to ` + "`weft up`" + `. Nothing else is changed: no port is
opened, no firewall touched.`,
		Example: `  weft service install
  weft service install -- --memory 8GB --name desk
  sudo weft service install --system
  weft service status
  weft service uninstall`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().BoolVar(&f.system, "system", false, "of the machine instead of the user")
	cmd.PersistentFlags().StringVar(&f.user, "user", "", "`NAME` that a service of the machine runs as (default who called sudo)")
	install := &cobra.Command{
		Use: "install [-- FLAGS OF UP]", Short: "Write the unit and start it, now and later", Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && cmd.ArgsLenAtDash() != 0 {
				return usageError{fmt.Errorf("%q is no flag of `weft service install`; flags of `weft up` come behind --", args[0])}
			}
			return c.serve(cmd.Context(), f, args, func(ctx context.Context, m *service.Manager) error {
				if err := c.alone(ctx, m); err != nil {
					return err
				}
				return m.Install(ctx)
			})
		},
	}
	uninstall := &cobra.Command{
		Use: "uninstall", Short: "Stop it and remove the unit; the node's state stays", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.serve(cmd.Context(), f, nil, func(ctx context.Context, m *service.Manager) error { return m.Uninstall(ctx) })
		},
	}
	status := &cobra.Command{Use: "status", Short: "What the system says of it", Args: cobra.NoArgs}
	asJSON := jsonFlag(status)
	status.RunE = func(cmd *cobra.Command, _ []string) error {
		return c.serve(cmd.Context(), f, nil, func(ctx context.Context, m *service.Manager) error {
			st, err := m.Status(ctx)
			if err != nil {
				return err
			}
			if *asJSON {
				return c.printJSON(st)
			}
			facts(c.out, c.out.width(), [][2]string{{"service", st.Text}, {"file", shortHome(st.File)}})
			return nil
		})
	}
	for _, sub := range []*cobra.Command{install, uninstall, status} {
		sub.Args = usageArgs(sub.Args)
		cmd.AddCommand(sub)
	}
	return cmd
}

// serve runs f with a manager for this user and machine.
func (c *command) serve(ctx context.Context, f serviceFlags, args []string, do func(context.Context, *service.Manager) error) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	if err := c.checkUpArgs(args); err != nil {
		return err
	}
	spec, err := c.serviceSpec(f, args)
	if err != nil {
		return err
	}
	m := &service.Manager{Spec: spec, Run: service.Exec, Say: func(s string) { fmt.Fprintln(c.out, clean(s)) }}
	return interrupted(ctx, do(ctx, m))
}

// checkUpArgs reads arguments as `weft up` will, so that a service does not fail
// later where nobody sees it.
func (c *command) checkUpArgs(args []string) error {
	up := (&command{App: c.App, in: c.in, out: &terminal{w: io.Discard}, err: &terminal{w: io.Discard}}).up()
	if err := up.ParseFlags(args); err != nil {
		return usageError{fmt.Errorf("`weft up` would not take the arguments behind --: %w", err)}
	}
	if rest := up.Flags().Args(); len(rest) > 0 {
		return usageError{fmt.Errorf("`weft up` takes no argument %q", rest[0])}
	}
	if text := up.Flags().Lookup("memory").Value.String(); text != "" {
		if _, ok := machine.ParseSize(text); !ok {
			return usageError{fmt.Errorf("--memory %q is no size; give one as in 8GB or 512MiB, or 0 for none", text)}
		}
	}
	switch {
	case up.Flags().Changed("join"):
		return usageError{errors.New("an invitation is used once and a service starts often: run `weft up --join TOKEN` in a terminal first, then install the service without it")}
	case up.Flags().Changed("api-key"):
		return usageError{errors.New("everybody can read a unit: with systemd put WEFT_API_KEY=KEY into service.env in the state directory, readable by you alone")}
	}
	return nil
}

// serviceSpec says what is to be installed, from who runs this command.
func (c *command) serviceSpec(f serviceFlags, args []string) (service.Spec, error) {
	s := service.Spec{OS: runtime.GOOS, System: f.system, User: f.user, UID: os.Getuid(), State: c.home, Args: args}
	var err error
	if s.Binary, err = os.Executable(); err != nil {
		return s, fmt.Errorf("find this program: %w", err)
	}
	if strings.Contains(filepath.ToSlash(s.Binary), "/go-build") {
		return s, errors.New("this program is a temporary one of `go run`: build or install it first (scripts/install.sh)")
	}
	if !f.system {
		if f.user != "" {
			return s, usageError{errors.New("--user is for --system; a service of the user runs as that user")}
		}
		s.Config, err = unitHome(runtime.GOOS, os.Getenv)
		return s, err
	}
	if s.User == "" {
		s.User = os.Getenv("SUDO_USER")
	}
	if s.User == "" || s.User == "root" && f.user == "" {
		return s, usageError{errors.New("whom should the node run as? Call this with sudo as that user, or give --user NAME")}
	}
	u, err := user.Lookup(s.User)
	if err != nil {
		return s, fmt.Errorf("find the user that the node runs as: %w", err)
	}
	if os.Getenv("WEFT_HOME") == "" { // sudo's own home is root's
		s.State, err = dataHome(runtime.GOOS, func(k string) string {
			if k == "HOME" {
				return u.HomeDir
			}
			return ""
		})
	}
	return s, err
}

// unitHome is where a user's units lie.
func unitHome(system string, env func(string) string) (string, error) {
	home := env("HOME")
	if system == "windows" {
		return "", nil // nothing is written there
	}
	if home == "" {
		return "", errors.New("$HOME is not set")
	}
	if system == "darwin" {
		return filepath.Join(home, "Library"), nil
	}
	if d := env("XDG_CONFIG_HOME"); filepath.IsAbs(d) {
		return d, nil
	}
	return filepath.Join(home, ".config"), nil
}

// alone refuses to start a service beside a node that a person has started.
func (c *command) alone(ctx context.Context, m *service.Manager) error {
	cl, err := api.Dial(m.State)
	if err != nil {
		return nil // nobody answers there
	}
	defer func() { _ = cl.Close() }()
	s, err := cl.Status(ctx)
	if err != nil {
		return nil
	}
	if st, err := m.Status(ctx); err == nil && st.Running {
		return nil
	}
	return fmt.Errorf("a node of %s already runs with pid %d, started by hand: stop it (Ctrl-C in its terminal), then install the service", shortHome(m.State), s.PID)
}
