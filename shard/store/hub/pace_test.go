package hub_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/weft-mesh/weft/shard/store/hub"
)

func TestDownloadsGoAtThePaceThatIsSet(t *testing.T) {
	data := noise(1 << 20)
	h := newHub(t, map[string][]byte{"m.gguf": data})
	var mu sync.Mutex // guards allowed
	allowed := 0
	paths, err := h.client(hub.Options{Pace: func(_ context.Context, left int) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		n := min(left, 1000)
		allowed += n
		return n, nil
	}}).Pull(t.Context(), ref(t, "hf:o/r"), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, paths[0], data)
	if allowed < len(data) {
		t.Errorf("%d bytes were allowed, %d came", allowed, len(data))
	}
	stop := errors.New("the node is shutting down")
	_, err = h.client(hub.Options{Retries: 1, Backoff: 1, Pace: func(context.Context, int) (int, error) { return 0, stop }}).Pull(t.Context(), ref(t, "hf:o/r"), t.TempDir(), nil)
	if !errors.Is(err, stop) {
		t.Errorf("a pace that fails ends a pull with %v", err)
	}
}
