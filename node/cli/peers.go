package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-mesh/weft/node/api"
)

func (c *command) peers() *cobra.Command {
	cmd := &cobra.Command{Use: "peers", Short: "The nodes of the mesh"}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return c.ask(cmd.Context(), func(ctx context.Context, n api.Node) error {
			list, err := n.Peers(ctx)
			if err != nil {
				return err
			}
			if *asJSON {
				return c.printJSON(orEmpty(list))
			}
			c.showPeers(list)
			return nil
		})
	}
	return cmd
}

// orEmpty makes an empty list print as [] and not as null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func (c *command) showPeers(list []api.Peer) {
	if len(list) == 0 {
		fmt.Fprintln(c.err, "this node is in no mesh")
		return
	}
	var rows [][]string
	for _, p := range list {
		mark := ""
		if p.Self {
			mark = "*"
		}
		f := peerFigures(p)
		rows = append(rows, []string{mark, p.Name, peerState(p), f.memory, f.speed, f.busy, f.rtt, f.link})
	}
	table(c.out, c.out.width(), []column{
		{title: ""},
		{title: "NAME", least: 8},
		{title: "STATE", least: 8},
		{title: "FREE/OFFERED", right: true},
		{title: "SPEED", right: true},
		{title: "BUSY", right: true},
		{title: "RTT", right: true},
		{title: "LINK", right: true},
	}, rows)
	for _, p := range list {
		fmt.Fprintln(c.out)
		for i, line := range peerFacts(p) {
			indent := ""
			if i > 0 {
				indent = "  "
			}
			fmt.Fprintln(c.out, indent+wrap(clean(line), c.out.width()-len(indent), indent+"  "))
		}
	}
	if len(list) == 1 {
		fmt.Fprintln(c.err, "no other node yet: run `weft up` on another machine and `weft approve CODE` here")
	}
}

// figures are a peer's values for a narrow table, "" where there are none.
type figures struct{ memory, speed, busy, rtt, link string }

func peerFigures(p api.Peer) figures {
	f := figures{memory: "none"}
	if p.MemOffered > 0 {
		f.memory = size(p.MemFree) + "/" + size(p.MemOffered)
		if p.DecodeBps > 0 {
			f.speed = fmt.Sprintf("%.1f GB/s", p.DecodeBps/1e9)
		}
	}
	if p.Device != "" || p.Busy > 0 {
		f.busy = fmt.Sprintf("%.0f%%", 100*p.Busy)
	}
	if p.RTT > 0 {
		f.rtt = span(p.RTT)
	}
	if p.Bandwidth > 0 {
		f.link = size(int64(p.Bandwidth)) + "/s"
	}
	return f
}

// peerState is a peer's state in a word.
func peerState(p api.Peer) string {
	state, _, _ := strings.Cut(p.State, ":") // why stands elsewhere
	if p.Stale && state == "alive" {
		return "stale"
	}
	return state
}

// peerFacts tells what a peer is and has, one fact a line; the first begins with
// its name.
func peerFacts(p api.Peer) []string {
	var lines []string
	if _, why, ok := strings.Cut(p.State, ":"); ok {
		lines = append(lines, "incompatible:"+why)
	}
	var parts []string
	add := func(text string) {
		if text != "" && text != "/" {
			parts = append(parts, text)
		}
	}
	add(p.Role)
	add(p.CPU)
	if p.Cores > 0 {
		add(plural(p.Cores, "core"))
	}
	add(p.Device)
	if p.MemTotal > 0 {
		add(size(p.MemTotal) + " of memory")
	}
	add(p.OS)
	add(p.Version)
	lines = append(lines, strings.Join(parts, ", "))
	if p.Note != "" {
		lines = append(lines, p.Note)
	}
	if p.DiskTotal > 0 {
		lines = append(lines, fmt.Sprintf("disk: %s free of %s", size(p.DiskFree), size(p.DiskTotal)))
	}
	for _, g := range p.GPUs {
		lines = append(lines, "gpu: "+gpuText(g))
	}
	if held := heldText(p.Held); held != "" {
		lines = append(lines, "holds: "+held)
	}
	if p.Stale {
		lines = append(lines, fmt.Sprintf("stale: these values are %s old and newer ones do not come", span(p.Age)))
	}
	lines = slices.DeleteFunc(lines, func(l string) bool { return l == "" })
	if len(lines) == 0 {
		return []string{p.Name}
	}
	lines[0] = p.Name + ": " + lines[0]
	return lines
}

func gpuText(g api.GPU) string {
	text := g.Name
	switch {
	case g.VRAMTotal > 0 && g.VRAMFree > 0:
		text += fmt.Sprintf(", %s free of %s", size(g.VRAMFree), size(g.VRAMTotal))
	case g.VRAMTotal > 0:
		text += ", " + size(g.VRAMTotal)
	case g.Shared:
		text += ", shares the processor's memory"
	}
	if g.Used && g.Room > 0 {
		text += fmt.Sprintf(", stages have %s of %s", size(g.Held), size(g.Room))
	}
	if g.DecodeBps > 0 {
		text += fmt.Sprintf(", %.1f GB/s", g.DecodeBps/1e9)
	}
	text += sensors(g)
	switch {
	case g.Used && g.ID != "":
		return text + " (used: " + g.ID + ")"
	case g.Used:
		return text + " (used)"
	}
	return text + " (" + g.Reason + ")"
}

// sensors are a card's temperature and power, where they are known.
func sensors(g api.GPU) string {
	text := ""
	if g.Celsius > 0 {
		text += fmt.Sprintf(", %.0f °C", g.Celsius)
	}
	if g.Watts > 0 {
		text += fmt.Sprintf(", %.0f W", g.Watts)
	}
	return text
}

// partsText says which layers lie where: "0-3 on the processor, 4-31 on Radeon".
func partsText(parts []api.StagePart) string {
	var list []string
	for _, p := range parts {
		name := p.Device
		if name == "processor" {
			name = "the processor"
		}
		list = append(list, layers(p.First, p.Last)+" on "+name)
	}
	return strings.Join(list, ", ")
}

// heldText lists held models: "tiny, big (layers 0-13 of 32)".
func heldText(held []api.HeldModel) string {
	var parts []string
	for _, h := range held {
		if h.Complete || len(h.Ranges) == 0 {
			parts = append(parts, h.Name)
			continue
		}
		var ranges []string
		for _, r := range h.Ranges {
			ranges = append(ranges, layers(r[0], r[1]))
		}
		parts = append(parts, fmt.Sprintf("%s (layers %s of %d)", h.Name, strings.Join(ranges, ","), h.Layers))
	}
	return strings.Join(parts, ", ")
}
