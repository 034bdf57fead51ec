package api

import "context"

// DeviceTestOptions say which devices to test and what keeps the outcome.
type DeviceTestOptions struct {
	Home    string // state directory; "" keeps nothing
	Version string
	Want    string // as Config.Devices
}

// DeviceReport is what `weft doctor gpu --json` prints: what to send when a card is
// reported.
type DeviceReport struct {
	Version  string         `json:"version"`
	System   string         `json:"system"`
	CPU      string         `json:"cpu"`
	Contract int            `json:"contract"`
	Absent   []AbsentDriver `json:"absent,omitempty"`
	Devices  []DeviceResult `json:"devices"`
}

// AbsentDriver is a library that knows no device here.
type AbsentDriver struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// DeviceResult is one device: what it is, whether it keeps the contract, and how
// fast it is.
type DeviceResult struct {
	ID            string  `json:"id"`
	Name          string  `json:"name"`
	Vendor        string  `json:"vendor"`
	Driver        string  `json:"driver"`
	DriverVersion string  `json:"driver_version"`
	Bus           string  `json:"bus,omitempty"`
	Memory        int64   `json:"memory_bytes"`
	Free          int64   `json:"free_bytes"`
	Shared        bool    `json:"shared_memory,omitempty"`
	Processor     bool    `json:"processor,omitempty"` // behind a library for graphics
	Tested        bool    `json:"tested"`
	Passed        bool    `json:"passed"`
	Reason        string  `json:"reason,omitempty"` // why it was not tested, or did not pass
	Seconds       float64 `json:"seconds,omitempty"`
	DecodeBps     float64 `json:"decode_bytes_per_s,omitempty"`
	PrefillOps    float64 `json:"prefill_ops_per_s,omitempty"`
	UploadBps     float64 `json:"upload_bytes_per_s,omitempty"`
}

// DeviceTester finds this machine's devices, holds each to the arithmetic contract
// and measures it; the command line is given one.
type DeviceTester func(ctx context.Context, o DeviceTestOptions, progress func(Progress)) (DeviceReport, error)
