//go:build !linux && !darwin

package machine

func systemGPUs() []GPU { return nil }

func systemCPU() string { return "" }
