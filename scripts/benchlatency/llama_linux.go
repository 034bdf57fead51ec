package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/weft-mesh/weft/scripts/netlab"
)

const rpcPort = "50052"

// llama is llama.cpp with its RPC backend over the lab: a server of one thread on
// each host but the last, from which it is asked.
type llama struct {
	root    string
	model   string // in root
	hosts   []*netlab.Host
	servers []*exec.Cmd
}

// rpcServers are the names that packages give the server, rpcDirs where they put
// it.
var (
	rpcServers = []string{"rpc-server", "llama-rpc-server", "ggml-rpc-server"}
	rpcDirs    = []string{"usr/bin", "usr/libexec/llama.cpp", "usr/lib/llama.cpp", "usr/libexec/*/llama/bin"}
)

// findServer gives the server's path in the system under root, "" when it has none.
func findServer(root string) string {
	for _, dir := range rpcDirs {
		for _, name := range rpcServers {
			if found, _ := filepath.Glob(filepath.Join(root, dir, name)); len(found) > 0 {
				return strings.TrimPrefix(found[0], root)
			}
		}
	}
	return ""
}

// startLlama starts the servers; nil when there is no llama.cpp to start.
func startLlama(s *settings, hosts []*netlab.Host) (*llama, error) {
	if s.root == "" {
		return nil, nil
	}
	server := findServer(s.root)
	if server == "" {
		return nil, fmt.Errorf("%s has no %s", s.root, strings.Join(rpcServers, " or "))
	}
	l := &llama{root: s.root, model: "/models/" + filepath.Base(s.model), hosts: hosts}
	if _, err := os.Stat(filepath.Join(s.root, l.model)); err != nil {
		return nil, fmt.Errorf("the model is not in llama.cpp's system: %w; scripts/bench-latency puts it there", err)
	}
	for _, h := range hosts[:len(hosts)-1] {
		cmd := h.Command("chroot", s.root, server, "-H", h.Addr().String(), "-p", rpcPort, "-t", "1", "-d", "CPU")
		cmd.Env = append(os.Environ(), "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
		if err := h.Start(cmd); err != nil {
			l.stop()
			return nil, fmt.Errorf("start llama.cpp's RPC server: %w", err)
		}
		l.servers = append(l.servers, cmd)
	}
	return l, l.await()
}

// await waits until every server takes connections.
func (l *llama) await() error {
	head := l.hosts[len(l.hosts)-1]
	for _, h := range l.hosts[:len(l.hosts)-1] {
		addr := net.JoinHostPort(h.Addr().String(), rpcPort)
		var err error
		for range 100 {
			if err = head.Do(func() error {
				c, err := net.DialTimeout("tcp", addr, time.Second)
				if err == nil {
					_ = c.Close()
				}
				return err
			}); err == nil {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if err != nil {
			l.stop()
			return fmt.Errorf("llama.cpp's RPC server on %s: %w", h.Name(), err)
		}
	}
	return nil
}

// rate is one sample of its generation, in tokens a second.
func (l *llama) rate(ctx context.Context, tokens int) (float64, error) {
	var rpc []string
	for _, h := range l.hosts[:len(l.hosts)-1] {
		rpc = append(rpc, h.Addr().String()+":"+rpcPort)
	}
	head := l.hosts[len(l.hosts)-1]
	cmd := head.Command("chroot", l.root, "llama-bench", "-m", l.model, "-t", "1", "-ngl", "99",
		"--rpc", strings.Join(rpc, ","), "-p", "0", "-n", fmt.Sprint(tokens), "-r", "1", "-o", "json")
	cmd.Env = append(os.Environ(), "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
	var out, said strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := head.Start(cmd); err != nil {
		return 0, err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	if err := cmd.Wait(); err != nil {
		text := strings.TrimSpace(said.String())
		return 0, fmt.Errorf("llama-bench over RPC: %w: %s", err, text[max(0, len(text)-400):])
	}
	return parseRate([]byte(out.String()))
}

func parseRate(out []byte) (float64, error) {
	var tests []struct {
		Gen  int     `json:"n_gen"`
		Rate float64 `json:"avg_ts"`
	}
	if err := json.Unmarshal(out, &tests); err != nil {
		return 0, fmt.Errorf("read the figures of llama-bench: %w", err)
	}
	for _, t := range tests {
		if t.Gen > 0 && t.Rate > 0 {
			return t.Rate, nil
		}
	}
	return 0, errors.New("llama-bench gave no figure for generation")
}

func (l *llama) stop() {
	for _, cmd := range l.servers {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}
