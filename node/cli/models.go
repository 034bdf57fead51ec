package cli

import (
	"context"
	"fmt"
	"strings"

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
