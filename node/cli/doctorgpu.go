package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-mesh/weft/node/api"
)

// errBadDevice ends `weft doctor gpu` after a device failed.
var errBadDevice = errors.New("a device does not keep the contract: weft computes on the processor in its place")

func (c *command) doctorGPU() *cobra.Command {
	var want string
	cmd := &cobra.Command{
		Use:   "gpu",
		Short: "Test the graphics processors of this machine",
		Long: `Finds the drivers that weft can speak to and their devices, holds each device
to the arithmetic contract bit for bit, and measures it: the memory that weights
are read from and the products of a prefill. What was found out before does not
count, and the node takes the new verdict at its next start.

Every card that passes gives the same replies as a processor. One that does not is
not used; the first value that differs is shown.`,
		Example: `  weft doctor gpu
  weft doctor gpu --json > report.json`,
		Args: usageArgs(cobra.NoArgs),
	}
	cmd.Flags().StringVar(&want, "device", "auto", "devices to test, as of weft up; a processor behind a graphics library (PoCL) only when it is named")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		show := newProgress(c.err)
		defer show.stop()
		rep, err := c.Devices(ctx, api.DeviceTestOptions{Home: c.home, Version: c.Version, Want: want}, show.update)
		show.stop()
		if err != nil {
			return interrupted(ctx, err)
		}
		if *asJSON {
			if err := c.printJSON(rep); err != nil {
				return err
			}
		} else {
			c.showDevices(rep)
		}
		for _, d := range rep.Devices {
			if d.Tested && !d.Passed {
				return errBadDevice
			}
		}
		return nil
	}
	return cmd
}

func (c *command) showDevices(rep api.DeviceReport) {
	width := c.out.width()
	fmt.Fprintln(c.out, wrap(clean(fmt.Sprintf("weft %s, %s, %s, contract %d", rep.Version, rep.System, rep.CPU, rep.Contract)), width, "  "))
	for _, a := range rep.Absent {
		fmt.Fprintln(c.out, wrap(clean(a.Name+": "+a.Reason), width, "  "))
	}
	for _, d := range rep.Devices {
		fmt.Fprintln(c.out)
		const name = 12
		for _, r := range deviceRows(d) {
			indent := strings.Repeat(" ", name)
			fmt.Fprintf(c.out, "%-*s%s\n", name, clean(r[0]), wrapRest(clean(r[1]), width, indent))
		}
	}
	if len(rep.Devices) == 0 {
		fmt.Fprintln(c.out, "\nno device: weft computes on the processor")
		return
	}
	fmt.Fprintln(c.out, "\n"+wrap("To report a card, send what `weft doctor gpu --json` prints; docs/gpus.md has what is known to work.", width, ""))
}

func deviceRows(d api.DeviceResult) [][2]string {
	what := []string{d.Name}
	if d.Memory > 0 {
		what = append(what, size(d.Memory))
	}
	if d.Free > 0 {
		what = append(what, size(d.Free)+" free")
	}
	if d.Shared {
		what = append(what, "shares the processor's memory")
	}
	driver := strings.TrimSpace(d.Driver + " " + d.DriverVersion)
	if d.Bus != "" {
		driver += ", bus " + d.Bus
	}
	rows := [][2]string{{d.ID, strings.Join(what, ", ")}, {"driver", driver}}
	switch {
	case !d.Tested:
		return append(rows, [2]string{"not tested", d.Reason})
	case !d.Passed:
		return append(rows, [2]string{"refused", d.Reason})
	}
	return append(rows, [][2]string{
		{"contract", fmt.Sprintf("kept bit for bit (tested and measured in %.1f s)", d.Seconds)},
		{"weights", fmt.Sprintf("read at %s/s, uploaded at %s/s", size(int64(d.DecodeBps)), size(int64(d.UploadBps)))},
		{"prefill", giga(d.PrefillOps)},
	}...)
}
