// Command compile writes the kernels' PTX text anew; go generate runs it in the package's
// folder. It needs Debian's packages clang-16 and libclc-16.
package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"

	"github.com/weft-mesh/weft/kernels/opencl"
	"github.com/weft-mesh/weft/kernels/opencl/cuda/ptx"
)

func main() {
	if err := write("kernels.ptx.gz"); err != nil {
		fmt.Fprintln(os.Stderr, "compile:", err)
		os.Exit(1)
	}
}

func write(name string) error {
	source := opencl.Source()
	text, err := ptx.Compile(context.Background(), source.Source, source.Hash)
	if err != nil {
		return err
	}
	m, err := ptx.Parse(string(text))
	if err != nil {
		return fmt.Errorf("read what the compiler wrote: %w", err)
	}
	if err := ptx.Check(m); err != nil {
		return fmt.Errorf("check what the compiler wrote: %w", err)
	}
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(text); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return os.WriteFile(name, out.Bytes(), 0o644)
}
