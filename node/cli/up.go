package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/machine"
)

// upFlags are the settings of `weft up` as they were typed.
type upFlags struct {
	listen, keys, hosts []string
	http, join, name    string
	mesh, found         string
	peers, bootstrap    []string
	memory, tier, level string
	device, vram        string
	disk, weights       string
	threads             int
	logJSON             bool
	speculate, draft    string
}

func (c *command) up() *cobra.Command {
	var f upFlags
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start this machine's node and stay in the foreground",
		Long: `Starts this machine's node, joins its mesh, and serves until Ctrl-C.

A machine without a mesh looks for one on the local network. When it finds
one, it shows a code: type ` + "`weft approve CODE`" + ` on any machine of that mesh.
When there is none, it makes a new mesh. Afterwards ` + "`weft up`" + ` is enough.

Where nobody is there to type, join with the token that ` + "`weft invite`" + ` prints
on a member.`,
		Example: `  weft up
  weft up --mesh home
  weft up --new lab
  weft up --join TOKEN --memory 8GB
  weft up --http 0.0.0.0:4711 --api-key SECRET`,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.runUp(cmd.Context(), f) },
	}
	fl := cmd.Flags()
	fl.StringSliceVar(&f.listen, "listen", nil, "mesh address HOST:PORT or :PORT (default :4710 or the next free port)")
	fl.StringVar(&f.http, "http", "", "OpenAI-compatible API at HOST:PORT, or off (default 127.0.0.1:4711 or the next free port)")
	fl.StringVar(&f.join, "join", "", "join a mesh with this invitation `TOKEN`")
	fl.StringVar(&f.mesh, "mesh", "", "ask only the mesh of this `NAME` or id to be let in")
	fl.StringVar(&f.found, "new", "", "make a new mesh of this `NAME` without looking for others")
	fl.StringSliceVar(&f.peers, "peer", nil, "address of a member, HOST:PORT, where the local network does not show it; kept for later starts, none forgets them")
	fl.StringSliceVar(&f.bootstrap, "bootstrap", nil, "find members of other networks through a DHT: public, or PEER@HOST:PORT of its nodes (default no DHT)")
	fl.StringVar(&f.name, "name", "", "this node's name (default the machine's)")
	fl.StringVar(&f.memory, "memory", "", "memory `SIZE` that the mesh may use, as in 8GB; 0 for none (default three quarters of what is free)")
	fl.StringVar(&f.disk, "disk", "", "disk `SIZE` that weights may take, as in 100GB (default what they take and nine tenths of what is free)")
	fl.StringVar(&f.weights, "weights-rate", "", "send at most this `SIZE` of weights a second to other nodes, as in 20MB (default no bound, and half of a link while replies cross it)")
	fl.IntVar(&f.threads, "threads", 0, "compute threads (default the physical cores)")
	fl.StringVar(&f.device, "device", "auto", "what computes beside the processor: auto (every GPU that keeps the contract), cpu (none), gpu (as auto, and one there must be), or devices as in cuda:0,opencl:1 or a part of their names")
	fl.StringVar(&f.vram, "vram", "", "memory `SIZE` of each GPU that the mesh may use (default what is free but a margin)")
	fl.StringSliceVar(&f.keys, "api-key", nil, "`KEY` that HTTP clients must send (also WEFT_API_KEY)")
	fl.StringSliceVar(&f.hosts, "host-name", nil, "further `NAME` that the HTTP API answers to")
	fl.StringVar(&f.tier, "tier", "", "kernel tier (default the best that this processor has)")
	fl.StringVar(&f.speculate, "speculate", "auto", "off, sync, async or auto: how replies that do not say draft ahead of the stages")
	fl.StringVar(&f.draft, "draft-model", "", "name, name@hash or GGUF file of a small `MODEL` that drafts for replies to models of the same vocabulary (default none)")
	fl.StringVar(&f.level, "log-level", "info", "debug, info, warn or error")
	fl.BoolVar(&f.logJSON, "log-json", false, "log JSON")
	return cmd
}

// config checks what was typed.
func (f *upFlags) config(c *command) (api.Config, error) {
	cfg := api.Config{
		Home: c.home, Version: c.Version, Listen: f.listen, HTTP: f.http, Join: strings.TrimSpace(f.join), Name: f.name,
		Mesh: f.mesh, New: f.found, Peers: f.peers, Bootstrap: f.bootstrap,
		Threads: f.threads, Tier: f.tier, Devices: f.device, APIKeys: f.keys, Hosts: f.hosts, Speculate: f.speculate,
	}
	draft, err := modelRef(f.draft)
	if err != nil {
		return cfg, err
	}
	cfg.DraftModel = draft
	if err := api.CheckSpeculate(f.speculate); err != nil {
		return cfg, usageError{err}
	}
	if f.memory != "" {
		n, ok := machine.ParseSize(f.memory)
		if !ok {
			return cfg, usageError{fmt.Errorf("--memory %q is no size; give one as in 8GB or 512MiB, or 0 for none", f.memory)}
		}
		if cfg.Memory = n; n == 0 {
			cfg.Memory = -1
		}
	}
	if f.disk != "" {
		n, ok := machine.ParseSize(f.disk)
		if !ok || n == 0 {
			return cfg, usageError{fmt.Errorf("--disk %q is no size; give one as in 100GB", f.disk)}
		}
		cfg.Disk = n
	}
	if f.vram != "" {
		n, ok := machine.ParseSize(f.vram)
		if !ok || n == 0 {
			return cfg, usageError{fmt.Errorf("--vram %q is no size; give one as in 6GB, or --device cpu to use none", f.vram)}
		}
		cfg.VRAM = n
	}
	if f.weights != "" {
		n, ok := machine.ParseSize(f.weights)
		if !ok || n == 0 {
			return cfg, usageError{fmt.Errorf("--weights-rate %q is no size; give one as in 20MB", f.weights)}
		}
		cfg.WeightsRate = n
	}
	if f.threads < 0 {
		return cfg, usageError{fmt.Errorf("--threads is %d; give 1 or more", f.threads)}
	}
	for _, k := range strings.Split(os.Getenv("WEFT_API_KEY"), ",") {
		if k = strings.TrimSpace(k); k != "" {
			cfg.APIKeys = append(cfg.APIKeys, k)
		}
	}
	if cfg.HTTP != "off" {
		// Before a join uses up its invitation.
		if err := (api.HTTPOptions{Addr: cfg.HTTP, Keys: cfg.APIKeys, Hosts: cfg.Hosts}).Validate(); err != nil {
			return cfg, usageError{err}
		}
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.level)); err != nil {
		return cfg, usageError{fmt.Errorf("--log-level %q is unknown; give debug, info, warn or error", f.level)}
	}
	cfg.Log = logger(c.err, level, f.logJSON)
	return cfg, nil
}

func logger(w io.Writer, level slog.Level, asJSON bool) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if asJSON {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	o.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			a.Value = slog.StringValue(a.Value.Time().Format("15:04:05"))
		}
		return a
	}
	return slog.New(slog.NewTextHandler(w, o))
}

func (c *command) runUp(ctx context.Context, f upFlags) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	cfg, err := f.config(c)
	if err != nil {
		return err
	}
	show := newProgress(c.err)
	defer show.stop()
	r, err := c.Start(ctx, cfg, show.update)
	show.stop()
	if err != nil {
		return interrupted(ctx, err)
	}
	if err := c.announce(ctx, r, cfg); err != nil {
		return errors.Join(err, r.Close())
	}
	select {
	case <-ctx.Done():
		stop() // a second signal ends the process at once
		fmt.Fprintln(c.err, "stopping; once more to stop at once")
		return r.Close()
	case <-r.Done():
		err := r.Close()
		if err == nil {
			fmt.Fprintln(c.err, "this node has stopped")
		}
		return err
	}
}

// announce prints what a person wants to know of a new node.
func (c *command) announce(ctx context.Context, r api.Running, cfg api.Config) error {
	s, err := r.Node().Status(ctx)
	if err != nil {
		return err
	}
	rows := [][2]string{
		{"node", s.Name},
		{"mesh", s.Mesh + withRole(s.Role)},
	}
	rows = append(rows, addrRows(s.Addrs)...)
	rows = append(rows, [][2]string{
		{"http", httpURL(r.HTTPAddr(), len(cfg.APIKeys) > 0)},
		{"device", s.Device},
		{"offers", offered(s.MemOffered)},
		{"home", shortHome(s.Home)},
	}...)
	facts(c.out, c.out.width(), append(rows, gpuRows(s.GPUs)...))
	fmt.Fprint(c.out, "\nAsk from another terminal:  weft run \"Why is the sky blue?\"\n")
	if strings.Contains(s.Role, "admitter") || s.Role == "" {
		fmt.Fprint(c.out, "Add another machine:        weft up  there, and here what it tells you to type\n                            (nobody there? weft invite)\n")
	}
	return nil
}

func withRole(role string) string {
	if role == "" {
		return ""
	}
	return ", as " + role
}

func httpURL(addr string, keys bool) string {
	switch {
	case addr == "":
		return "off"
	case keys:
		return "http://" + addr + "/v1 (with an API key)"
	}
	return "http://" + addr + "/v1"
}

func offered(n int64) string {
	if n <= 0 {
		return "nothing: it asks, others compute"
	}
	return size(n) + " of memory"
}

// addrRows lists the first addresses.
func addrRows(addrs []string) [][2]string {
	const most = 4
	var rows [][2]string
	for i, a := range addrs {
		name := ""
		if i == 0 {
			name = "listens"
		}
		if i == most {
			rows = append(rows, [2]string{name, fmt.Sprintf("and %d more", len(addrs)-i)})
			break
		}
		a, _, _ = strings.Cut(a, "/p2p/") // the peer id stands elsewhere
		rows = append(rows, [2]string{name, a})
	}
	return rows
}

func gpuRows(gpus []api.GPU) [][2]string {
	var rows [][2]string
	for _, g := range gpus {
		rows = append(rows, [2]string{"gpu", gpuText(g)})
	}
	return rows
}
