package devices

import (
	"encoding/hex"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/opencl"
	"github.com/weft-mesh/weft/kernels/opencl/cuda"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
	"github.com/weft-mesh/weft/kernels/opencl/icd"
)

// Device is a device with memory of its own, or a share of the processor's.
type Device interface {
	kernels.Device
	// MemoryInfo gives free and whole memory in bytes, as the driver tells.
	MemoryInfo() (free, total uint64, err error)
}

// CameBack is the bytes that a device has given back to the host so far, 0 for one that
// does not count them. It is for who holds the device's lock.
func CameBack(d kernels.Device) int64 {
	if g, ok := d.(*guard); ok {
		d = g.Device
	}
	if c, ok := d.(interface{ Transfers() opencl.Transfers }); ok {
		return c.Transfers().Down
	}
	return 0
}

// Backend finds and opens the devices of one kind of library.
type Backend interface {
	// Name is "opencl" or "cuda".
	Name() string
	// Devices lists what the library knows; driver.ErrAbsent without the library.
	Devices() ([]driver.Info, error)
	// Open opens the device of that index. It may take seconds.
	Open(index int) (Device, error)
	// Program identifies the code that a device of this backend runs: what was
	// found out about a device holds for this program alone.
	Program() string
}

// Backends are those of this build. Where two know a card, the first has it.
func Backends() []Backend { return []Backend{native{cuda.New()}, native{icd.New()}} }

// native is a driver that runs weft's kernels.
type native struct{ driver.Driver }

func (n native) Open(index int) (Device, error) {
	d, err := n.Driver.Open(index, opencl.Source())
	if err != nil {
		return nil, err
	}
	return opencl.New(d)
}

func (n native) Program() string {
	hash := opencl.Source().Hash
	return hex.EncodeToString(hash[:])
}
