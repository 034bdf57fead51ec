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

//go:embed kernels.ptx.gz
var packed []byte

// program is a text that was read.
type program struct {
	text   []byte // ends with a zero byte, as the driver wants it
	module ptx.Module
}

// programs are the texts by what they need of a card, the best first, each made when a
// device first needs it.
var programs = []struct {
	capability int
	read       func() (*program, error)
}{
	{ptx.Tensor, sync.OnceValues(func() (*program, error) { return unpack(ptx.Tensor) })},
	{ptx.DotProduct, sync.OnceValues(func() (*program, error) { return unpack(ptx.DotProduct) })},
	{ptx.Oldest, sync.OnceValues(func() (*program, error) { return unpack(ptx.Oldest) })},
}

func unpack(capability int) (*program, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("cuda: unpack the kernels: %w", err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		return nil, fmt.Errorf("cuda: unpack the kernels: %w", err)
	}
	text = ptx.Text(text, capability)
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
	for _, candidate := range programs {
		if candidate.capability > capability {
			continue
		}
		p, err := candidate.read()
		if err != nil {
			return nil, err
		}
		if want := hex.EncodeToString(source.Hash[:]); p.module.Hash != want {
			return nil, fmt.Errorf("cuda: kernels.ptx.gz was compiled from another source (%.12s, the program's is %.12s): run go generate ./kernels/opencl/cuda", p.module.Hash, want)
		}
		return p, nil
	}
	return nil, fmt.Errorf("cuda: the card's compute capability %d.%d is older than %d.%d", capability/10, capability%10, ptx.Oldest/10, ptx.Oldest%10)
}
