//go:build !cgo || !linux

package machine

// nvmlGPUs needs cgo; this build reads the driver's files instead.
func nvmlGPUs() []GPU { return nil }
