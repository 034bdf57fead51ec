//go:build static || !(amd64 || arm64) || !(linux || darwin || windows)

package icd

import (
	"fmt"

	"github.com/weft-mesh/weft/kernels/opencl/driver"
)

func load() (*library, error) {
	return nil, fmt.Errorf("%w: this build of weft has no loader for OpenCL", driver.ErrAbsent)
}

func call(uintptr, ...uintptr) uintptr { return 0 }
