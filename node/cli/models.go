package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-mesh/weft/node/api"
)

func (c *command) models() *cobra.Command {
	cmd := &cobra.Command{Use: "models", Short: "The models that can be asked"}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return c.with(cmd.Context(), func(ctx context.Context, n api.Node, _ func(api.Progress)) error {
			list, err := n.Models(ctx)
			if err != nil {
				return err
			}
			if *asJSON {
				return c.printJSON(orEmpty(list))
			}
			c.showModels(list)
			return nil
		})
	}
	return cmd
}

func (c *command) showModels(list []api.Model) {
	if len(list) == 0 {
		fmt.Fprintln(c.err, "no models yet: `weft add FILE.gguf` takes one that you have, `weft pull hf:owner/repo` downloads one")
		return
	}
	var rows [][]string
	some := false
	for _, m := range list {
		mark := ""
		if m.Default {
			mark, some = "*", true
		}
		length, ctx := "", ""
		if m.FileBytes > 0 {
			length = size(m.FileBytes)
		}
		if m.Context > 0 {
			ctx = fmt.Sprint(m.Context)
		}
		holders := strings.Join(m.Holders, " ")
		if holders == "" {
			holders = "-"
		}
		rows = append(rows, []string{mark, m.Name, shortHash(m.Hash), m.Arch, count(m.Params), length, ctx, m.State, holders})
	}
	table(c.out, c.out.width(), []column{
		{title: ""},
		{title: "NAME", least: 14},
		{title: "HASH"},
		{title: "ARCH", least: 5},
		{title: "PARAMS", right: true},
		{title: "SIZE", right: true},
		{title: "CONTEXT", right: true},
		{title: "STATE", least: 5},
		{title: "HOLDERS", least: 7},
	}, rows)
	if some {
		fmt.Fprintln(c.out, "* answers when no model is named")
	}
	c.showKept(list)
}

// showKept lists what of the models lies packed on this machine's disk.
func (c *command) showKept(list []api.Model) {
	var rows [][]string
	for _, m := range list {
		if m.DiskBytes > 0 || m.Pinned {
			rows = append(rows, []string{m.Name, shortHash(m.Hash), size(m.DiskBytes), keptHow(m, time.Now())})
		}
	}
	if len(rows) == 0 {
		return
	}
	fmt.Fprintln(c.out)
	table(c.out, c.out.width(), []column{
		{title: "PACKED HERE", least: 14},
		{title: "HASH"},
		{title: "ON DISK", right: true},
		{title: "KEPT"},
	}, rows)
}

// keptHow says what holds a model's weights on this machine's disk, and when they
// were used.
func keptHow(m api.Model, now time.Time) string {
	var parts []string
	if m.Pinned {
		parts = append(parts, "pinned")
	}
	switch {
	case m.InUse:
		parts = append(parts, "in use")
	case m.LastUsed != nil && m.DiskBytes > 0:
		parts = append(parts, "used "+ago(now.Sub(*m.LastUsed)))
	case m.DiskBytes > 0 && !m.Pinned:
		parts = append(parts, "unused")
	}
	return strings.Join(parts, ", ")
}

// ago words how long something is past.
func ago(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	}
	return fmt.Sprintf("%d days ago", int(d.Hours()/24))
}

func shortHash(h string) string {
	if len(h) > 8 {
		return h[:8]
	}
	return h
}

// showModel says what a command did with a model.
func (c *command) showModel(did string, m api.Model) {
	var more []string
	if m.Arch != "" {
		more = append(more, m.Arch)
	}
	if s := count(m.Params); s != "" {
		more = append(more, s+" parameters")
	}
	if m.FileBytes > 0 {
		more = append(more, size(m.FileBytes))
	}
	if m.Context > 0 {
		more = append(more, fmt.Sprintf("context %d", m.Context))
	}
	text := did + " " + clean(m.Name)
	if m.Hash != "" {
		text += "@" + shortHash(m.Hash)
	}
	if len(more) > 0 {
		text += " (" + clean(strings.Join(more, ", ")) + ")"
	}
	fmt.Fprintln(c.out, text)
}
