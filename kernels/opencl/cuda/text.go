package cuda

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/hex"
	"fmt"
	"io"
	"sync"

	"github.com/weft-mesh/weft/kernels/opencl/cuda/ptx"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
)

//go:embed sm_61.ptx.gz
var sm61 []byte

//go:embed sm_50.ptx.gz
var sm50 []byte

// packed are the texts of ptx.Targets.
var packed = map[int][]byte{61: sm61, 50: sm50}

// program is a text that was read.
type program struct {
	text   []byte // ends with a zero byte, as the driver wants it
	module ptx.Module
}

// programs reads each text once, when a device first needs it.
var programs = map[int]func() (*program, error){
	61: sync.OnceValues(func() (*program, error) { return unpack(packed[61]) }),
	50: sync.OnceValues(func() (*program, error) { return unpack(packed[50]) }),
}

func unpack(b []byte) (*program, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("cuda: unpack the kernels: %w", err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		return nil, fmt.Errorf("cuda: unpack the kernels: %w", err)
	}
	m, err := ptx.Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("cuda: read the kernels: %w", err)
	}
	for name, k := range m.Kernels {
		k.Body = nil
		m.Kernels[name] = k
	}
	return &program{append(text, 0), m}, nil
}

// programFor is the best text for a card, if it is of the source that is asked for.
func programFor(capability int, source driver.Program) (*program, error) {
	for _, t := range ptx.Targets {
		if t.Capability > capability {
			continue
		}
		p, err := programs[t.Capability]()
		if err != nil {
			return nil, err
		}
		if want := hex.EncodeToString(source.Hash[:]); p.module.Hash != want {
			return nil, fmt.Errorf("cuda: %s was compiled from another source (%.12s, the program's is %.12s): run go generate ./kernels/opencl/cuda", t.File(), p.module.Hash, want)
		}
		return p, nil
	}
	oldest := ptx.Targets[len(ptx.Targets)-1].Capability
	return nil, fmt.Errorf("cuda: the card's compute capability %d.%d is older than %d.%d", capability/10, capability%10, oldest/10, oldest%10)
}
