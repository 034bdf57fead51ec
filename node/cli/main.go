package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/weft-mesh/weft/node/api"
)

// App is what the command line needs of the rest of the program.
type App struct {
	Start   api.Starter
	Bench   api.Bencher
	Devices api.DeviceTester
	Keys    api.RootKeys
	Version string
}

// Exit codes.
const (
	exitError     = 1
	exitUsage     = 2
	exitInterrupt = 130 // as a shell reports a command that SIGINT ended
)

// usageError is an error of how a command was called.
type usageError struct{ error }

// errInterrupted ends a command that the user stopped.
var errInterrupted = errors.New("interrupted")

// command is one call of weft with what it reads and writes.
type command struct {
	App
	in   io.Reader
	out  *terminal
	err  *terminal
	home string
}

// Main runs one command line and gives its exit code. SIGINT and SIGTERM end
// what it does.
func Main(a App, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c := &command{App: a, in: stdin, out: newTerminal(stdout), err: newTerminal(stderr)}
	root := c.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(context.Background())
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errInterrupted):
		return exitInterrupt
	case errors.As(err, &usage):
		fmt.Fprintln(c.err, "weft: "+oneLine(err.Error()))
		return exitUsage
	default:
		fmt.Fprintln(c.err, "weft: "+oneLine(err.Error()))
		return exitError
	}
}

// interruptible gives a context that ends with SIGINT or SIGTERM.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}

// interrupted turns the error of a call that the user stopped into
// errInterrupted.
func interrupted(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return errInterrupted
	}
	return err
}

func (c *command) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "weft",
		Short: "Your machines, one inference engine",
		Long: `weft turns the machines you have into one inference engine: each runs
the same program, a model's layers are split between them, and a prompt typed
on any of them is answered by all.

  weft up                      start this machine's node
  weft up                      on another machine: ask to join, showing a code
  weft approve CODE            on the first: let it in
  weft run "Why is it blue?"   ask

State lives in $WEFT_HOME (` + defaultHomeForPeople() + ` unless set).`,
		SilenceErrors: true, SilenceUsage: true,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return cmd.Help()
		},
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		PersistentPreRunE: func(*cobra.Command, []string) error {
			var err error
			c.home, err = home()
			return err
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath())}
	})
	root.AddCommand(c.doctor(), c.service())
	// The built-in template lets descriptions of flags run over the screen's edge.
	cobra.AddTemplateFunc("wrapped", func(f *pflag.FlagSet) string { return f.FlagUsagesWrapped(80) })
	root.SetUsageTemplate(strings.NewReplacer(".LocalFlags.FlagUsages", "wrapped .LocalFlags", ".InheritedFlags.FlagUsages", "wrapped .InheritedFlags").Replace(root.UsageTemplate()))
	root.AddCommand(c.up(), c.run(), c.status(), c.peers(), c.top(), c.models(), c.pull(), c.rm(), c.pin(), c.unpin(), c.add(), c.plan(), c.bench(), c.invite(), c.leave(), c.version())
	root.AddCommand(c.approve(), c.trust(), c.revoke())
	for _, sub := range root.Commands() {
		sub.Args = usageArgs(sub.Args)
	}
	return root
}

func unknownCommand(cmd *cobra.Command, name string) error {
	msg := fmt.Sprintf("unknown command %q", name)
	cmd.SuggestionsMinimumDistance = 2
	if s := cmd.SuggestionsFor(name); len(s) > 0 {
		msg += "; did you mean `weft " + strings.Join(s, "` or `weft ") + "`?"
	} else {
		msg += "; see `weft --help`"
	}
	return usageError{errors.New(msg)}
}

// usageArgs makes errors of an argument check usage errors.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if check == nil {
			check = cobra.NoArgs
		}
		if err := check(cmd, args); err != nil {
			return usageError{fmt.Errorf("%w; usage: %s", err, cmd.UseLine())}
		}
		return nil
	}
}

// printJSON writes one object, indented, to stdout.
func (c *command) printJSON(v any) error {
	enc := json.NewEncoder(c.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func jsonFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("json", false, "print JSON")
}
