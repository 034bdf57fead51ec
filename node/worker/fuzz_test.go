package worker_test

import (
	"encoding/binary"
	"io"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/weft-mesh/weft/p2p/wire"
)

// fuzzer feeds bytes to a server as a peer's stream.
type fuzzer struct{}

// plan is a valid request as it is on the stream.
func (*fuzzer) plan() ([]byte, error) {
	b, err := proto.Marshal(reserve(planOf(tiny(), "head", 1, []string{"a"}), 0))
	return append(binary.AppendUvarint(nil, uint64(len(b))), b...), err
}

// serve writes b, ends the stream and waits until the server has had enough.
func (*fuzzer) serve(t *testing.T, b []byte, server func(wire.Stream)) {
	near, far := wire.PipeStream()
	if _, err := near.Write(b); err != nil {
		t.Fatal(err)
	}
	if half, ok := near.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(io.Discard, near) })
	server(far)
	_ = far.Reset()
	wg.Wait()
}
