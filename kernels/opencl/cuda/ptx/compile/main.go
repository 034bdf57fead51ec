// Command compile writes the kernels' PTX texts anew; go generate runs it in the package's
// folder. It needs Debian's packages clang-16 and libclc-16.
package main

import (
	"compress/gzip"
	"context"
	"fmt"
	"os"

	"github.com/weft-mesh/weft/kernels/opencl"
	"github.com/weft-mesh/weft/kernels/opencl/cuda/ptx"
)

func main() {
	for _, t := range ptx.Targets {
		if err := write(t); err != nil {
			fmt.Fprintln(os.Stderr, "compile:", err)
			os.Exit(1)
		}
	}
}

func write(t ptx.Target) error {
	source := opencl.Source()
	text, err := ptx.Compile(context.Background(), source.Source, source.Hash, t)
	if err != nil {
		return err
	}
	m, err := ptx.Parse(string(text))
	if err != nil {
		return fmt.Errorf("read %s: %w", t.File(), err)
	}
	if err := ptx.Check(m); err != nil {
		return fmt.Errorf("check %s: %w", t.File(), err)
	}
	f, err := os.Create(t.File() + ".gz")
	if err != nil {
		return err
	}
	z, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(text); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return f.Close()
}
