package devices

import (
	"context"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/machine"
)

// Test is an api.DeviceTester: it tests the devices of this machine anew, whatever
// is kept about them.
func Test(ctx context.Context, o api.DeviceTestOptions, progress func(api.Progress)) (api.DeviceReport, error) {
	return report(ctx, o, progress, Backends())
}

func report(ctx context.Context, o api.DeviceTestOptions, progress func(api.Progress), backends []Backend) (api.DeviceReport, error) {
	home := o.Home
	if st, err := os.Stat(home); home == "" || err != nil || !st.IsDir() { // nothing is to be made there
		dir, err := os.MkdirTemp("", "weft-doctor-*")
		if err != nil {
			return api.DeviceReport{}, err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		home = dir
	}
	rep := api.DeviceReport{
		Version: o.Version, System: runtime.GOOS + "/" + runtime.GOARCH, CPU: machine.Facts(ctx, home).CPU,
		Contract: kernels.ContractVersion, Devices: []api.DeviceResult{},
	}
	want := o.Want
	if strings.EqualFold(strings.TrimSpace(want), GPU) { // without one there is a report as well
		want = Auto
	}
	set, err := Open(ctx, Options{
		Want: want, Home: home, Version: o.Version, Backends: backends, Again: true, All: true,
		Tell: func(text string) { progress(api.Progress{Phase: "device", Text: text}) },
	})
	if err != nil {
		return rep, err
	}
	defer func() { _ = set.Close() }()
	for name, err := range set.Absent() {
		rep.Absent = append(rep.Absent, api.AbsentDriver{Name: name, Reason: brief(err)})
	}
	slices.SortFunc(rep.Absent, func(a, b api.AbsentDriver) int { return strings.Compare(a.Name, b.Name) })
	for _, c := range set.Cards() {
		rep.Devices = append(rep.Devices, api.DeviceResult{
			ID: c.ID, Name: c.Name, Vendor: c.Vendor, Driver: c.Driver, DriverVersion: c.Version, Bus: c.Bus, Memory: c.Total, Free: c.Free,
			Shared: c.Shared, Processor: c.CPU, Tested: c.Took > 0, Passed: c.Used, Reason: c.Reason, Seconds: c.Took.Seconds(),
			DecodeBps: c.Speed.DecodeBps, PrefillOps: 2 * c.Speed.PrefillOps, UploadBps: c.Speed.UploadBps,
		})
	}
	return rep, nil
}
