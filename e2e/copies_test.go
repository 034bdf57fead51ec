//go:build unix

package e2e_test

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/node/api"
)

// TestTwoSmallNodesAnswerTwoLongRepliesAtOnce asks a head without weights for
// long replies at the same time, where two nodes have the model on their disks:
// each computes some of them, with the same bytes. With WEFT_TEST_MODEL and
// WEFT_TEST_LONG it says how long two take beside one.
func TestTwoSmallNodesAnswerTwoLongRepliesAtOnce(t *testing.T) {
	path, tokens := deep(t, 24), 400
	if os.Getenv("WEFT_TEST_LONG") != "" && os.Getenv("WEFT_TEST_MODEL") != "" {
		path = os.Getenv("WEFT_TEST_MODEL")
	}
	threads := []string{"--threads", "1"}
	all := mesh(t, spec{name: "a", memory: "1GB", args: threads}, spec{name: "b", memory: "1GB", args: threads}, spec{name: "head", memory: "0"})
	head := all[2]
	for _, d := range all[:2] {
		mustRun(t, d.home, "add", path, "--name", "m", "--ctx", "512")
	}
	eventually(t, 15*time.Second, func() error {
		ms, err := head.Models(t.Context())
		if err != nil || len(ms) != 1 || len(ms[0].Holders) != 2 {
			return fmt.Errorf("the head knows %+v, %v", ms, err)
		}
		return nil
	})
	plain := func(q *api.GenerateRequest) { q.Speculate, q.NoPrefix = "off", true }
	ask := func() (api.Reply, error) { return head.askLike(t, "m", tokens, plain, nil) }
	want, err := ask() // makes the model ready
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if _, err := ask(); err != nil {
		t.Fatal(err)
	}
	alone := time.Since(begin)
	together := func(n int) (nodes map[string]int, took time.Duration) {
		var mu sync.Mutex // guards nodes
		nodes = map[string]int{}
		var wg sync.WaitGroup
		begin := time.Now()
		for range n {
			wg.Go(func() {
				got, err := ask()
				if diff := cmp.Diff(bytesIn(want), bytesIn(got)); err != nil || diff != "" {
					t.Errorf("%v (-alone +beside others):\n%s", err, diff)
				}
				mu.Lock()
				defer mu.Unlock()
				for _, st := range got.Plan.Stages {
					nodes[st.Name]++
				}
			})
		}
		wg.Wait()
		return nodes, time.Since(begin)
	}
	nodes, crowded := together(2)
	t.Logf("a reply alone takes %v, two at once, asked of %v, %v", alone, nodes, crowded)
	eventually(t, 60*time.Second, func() error {
		if nodes, _ := together(4); len(nodes) != 2 || t.Failed() {
			return fmt.Errorf("the replies came from %v", nodes)
		}
		return nil
	})
	nodes, shared := together(2)
	t.Logf("with a copy, two at once, asked of %v, take %v: %.2f times as long as one", nodes, shared, shared.Seconds()/alone.Seconds())
	idle(t, all...)
}
