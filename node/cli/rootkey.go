package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/charmbracelet/x/term"
	"github.com/spf13/cobra"

	"github.com/weft-mesh/weft/node/api"
)

const maxBackupFile = 64 << 10

func (c *command) backup() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write the mesh's root key to a file, encrypted with a passphrase",
		Long: `Writes the mesh's root key to FILE, encrypted with a passphrase. Without the
root key nobody can appoint or revoke admitters any more; only the founding node
has it. The file is an age file: who has it and the passphrase owns the mesh.

The passphrase is asked for, or read from WEFT_PASSPHRASE or the first line of
stdin.`,
		Example: "  weft trust backup ~/mesh-root.age",
		Args:    cobra.ExactArgs(1),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if _, err := os.Stat(args[0]); err == nil {
			return fmt.Errorf("%s exists; give another name, it is not written over", args[0])
		}
		pass, err := c.passphrase(true)
		if err != nil {
			return err
		}
		var b api.Backup
		err = c.daemonOr(cmd.Context(), func(ctx context.Context, n api.Node) error {
			b, err = n.BackupRoot(ctx, api.BackupRequest{Passphrase: pass})
			return err
		}, func(ctx context.Context) error {
			b, err = c.Keys.BackupRoot(ctx, c.home, api.BackupRequest{Passphrase: pass})
			return err
		})
		if err != nil {
			return err
		}
		if err := writeNew(args[0], b.File); err != nil {
			return fmt.Errorf("write the backup: %w", err)
		}
		fmt.Fprintln(c.out, clean(fmt.Sprintf("the root key of %s is in %s; keep the file and the passphrase apart, and not on this machine", b.Mesh, args[0])))
		return nil
	}
	return cmd
}

// writeNew writes a file that does not exist yet and nobody else may read.
func writeNew(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

func (c *command) restore() *cobra.Command {
	return &cobra.Command{
		Use:   "restore FILE",
		Short: "Take the mesh's root key from a backup",
		Long: `Takes the root key from a file that ` + "`weft trust backup`" + ` wrote. This node then
appoints and revokes admitters. It must be a member of that mesh, or of none:
then it belongs to the mesh afterwards, and ` + "`weft up --peer HOST:PORT`" + ` finds
the others where the local network does not show them.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := readFile(args[0])
			if err != nil {
				return fmt.Errorf("read the backup: %w", err)
			}
			pass, err := c.passphrase(false)
			if err != nil {
				return err
			}
			var out api.Restored
			q := api.RestoreRequest{File: file, Passphrase: pass}
			err = c.daemonOr(cmd.Context(), func(ctx context.Context, n api.Node) error {
				out, err = n.RestoreRoot(ctx, q)
				return err
			}, func(ctx context.Context) error {
				out, err = c.Keys.RestoreRoot(ctx, c.home, q)
				return err
			})
			if err != nil {
				return err
			}
			fmt.Fprintln(c.out, clean("this node holds the root key of "+out.Mesh+" now"))
			return nil
		},
	}
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxBackupFile+1))
	if err == nil && len(b) > maxBackupFile {
		err = fmt.Errorf("%s has more than %d bytes: it is no backup of a root key", path, maxBackupFile)
	}
	return b, err
}

// daemonOr runs f with the daemon of this home or, where none runs, alone.
func (c *command) daemonOr(ctx context.Context, f func(context.Context, api.Node) error, alone func(context.Context) error) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	cl, err := api.Dial(c.home)
	if errors.Is(err, api.ErrNoDaemon) {
		return interrupted(ctx, alone(ctx))
	}
	if err != nil {
		return err
	}
	defer func() { _ = cl.Close() }()
	return interrupted(ctx, f(ctx, cl))
}

// passphrase asks for a passphrase, twice for a new one, and shows nothing of
// it. Scripts give it by WEFT_PASSPHRASE or on stdin.
func (c *command) passphrase(twice bool) (string, error) {
	if p := os.Getenv("WEFT_PASSPHRASE"); p != "" {
		return p, nil
	}
	if !isTerminal(c.in) {
		line, err := bufio.NewReader(io.LimitReader(c.in, 4096)).ReadString('\n')
		if line = strings.TrimRight(line, "\r\n"); line == "" {
			return "", usageError{errors.Join(errors.New("a passphrase is needed: type it, or give it by WEFT_PASSPHRASE or on stdin"), ignoreEOF(err))}
		}
		return line, nil
	}
	first, err := c.askSecret("passphrase: ")
	if err != nil || !twice {
		return first, err
	}
	again, err := c.askSecret("once more:  ")
	if err == nil && again != first {
		err = errors.New("the two passphrases differ; nothing was written")
	}
	return first, err
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (c *command) askSecret(prompt string) (string, error) {
	f, ok := c.in.(*os.File)
	if !ok {
		return "", errors.New("stdin is no terminal")
	}
	fmt.Fprint(c.err, prompt)
	b, err := term.ReadPassword(f.Fd())
	fmt.Fprintln(c.err)
	if err != nil {
		return "", fmt.Errorf("read the passphrase: %w", err)
	}
	return string(b), nil
}
