package cli_test

import (
	"context"
	"fmt"
	"os"

	"github.com/weft-mesh/weft/node/api"
)

// fakeDevices tests two cards, one of which lies.
func fakeDevices(_ context.Context, o api.DeviceTestOptions, progress func(api.Progress)) (api.DeviceReport, error) {
	rep := api.DeviceReport{
		Version: o.Version, System: "linux/amd64", CPU: "Some CPU 9 7950X", Contract: 1, Devices: []api.DeviceResult{},
		Absent: []api.AbsentDriver{{Name: "cuda", Reason: "no driver: open library libcuda.so.1: no such file"}},
	}
	progress(api.Progress{Phase: "device", Text: "checking Other GPU: Products"})
	if os.Getenv("WEFT_FAKE") == "alone" {
		return rep, nil
	}
	if o.Want != "auto" {
		return rep, api.Errorf(api.KindInvalid, "%w", fmt.Errorf("--device: no device is %q; there are opencl:0 (Other GPU)", o.Want))
	}
	rep.Devices = []api.DeviceResult{
		{ID: "opencl:0", Name: "Other GPU", Vendor: "Other", Driver: "opencl, Platform", DriverVersion: "535.1", Bus: "0000:01:00.0", Memory: 12e9, Free: 11e9, Tested: true, Passed: true, Seconds: 2.4, DecodeBps: 320e9, PrefillOps: 9e12, UploadBps: 11e9},
		{ID: "opencl:1", Name: "Lying GPU with a name that is rather long, of a vendor that likes names", Vendor: "Liar", Driver: "opencl, Liar", DriverVersion: "1", Memory: 4e9, Tested: true, Seconds: 1, Reason: "it does not keep the arithmetic contract with this driver: Norm, 1 heads of 33: norm: row 0 element 16 is 1.25 (3fa00000), want 1.2499999 (3f9fffff)"},
		{ID: "opencl:2", Name: "pthread", Driver: "opencl, PoCL", DriverVersion: "3.1", Shared: true, Processor: true, Reason: "it is the processor, seen through a graphics library; --device opencl:2 uses it all the same"},
	}
	return rep, nil
}
