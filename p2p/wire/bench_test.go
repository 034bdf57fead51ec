package wire_test

import (
	"testing"

	"github.com/weft-mesh/weft/p2p/wire"
)

// BenchmarkRoundTrip is a frame with 16 KiB there and back.
func BenchmarkRoundTrip(b *testing.B) {
	near, far := wire.Pipe("a", "b", wire.Config{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			f, p, err := far.Recv()
			if err != nil {
				return
			}
			_ = far.Send(f, p)
		}
	}()
	f, payload := run(1), make([]byte, 16<<10)
	b.ReportAllocs()
	for b.Loop() {
		if err := near.Send(f, payload); err != nil {
			b.Fatal(err)
		}
		if _, _, err := near.Recv(); err != nil {
			b.Fatal(err)
		}
	}
	near.Close(nil)
	<-near.Done()
	<-done
	far.Close(nil)
	<-far.Done()
}
