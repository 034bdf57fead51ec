package node

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"

	"github.com/weft-mesh/weft/node/machine"
)

// gauge is one figure of this node with its labels.
type gauge struct {
	name, help string
	kind       prometheus.ValueType
	labels     []string
	values     []string
	value      float64
}

// figures are read when somebody asks for the metrics.
func (n *Node) figures() []gauge {
	w := n.worker.Stats()
	out := []gauge{
		{name: "weft_info", help: "Version of this node.", kind: prometheus.GaugeValue, labels: []string{"version", "name", "device"}, values: []string{n.cfg.Version, n.name(), n.device.Name()}, value: 1},
		{name: "weft_peers", help: "Other live nodes of the mesh.", kind: prometheus.GaugeValue, value: float64(len(n.members()))},
		{name: "weft_replies", help: "Replies that this node heads now.", kind: prometheus.GaugeValue, value: float64(n.sessions.Load())},
		{name: "weft_generated_tokens_total", help: "Tokens generated for replies of this head.", kind: prometheus.CounterValue, value: float64(n.generated.Load())},
		{name: "weft_decode_runs_total", help: "Decode and verification runs of replies of this head.", kind: prometheus.CounterValue, value: float64(n.runs.Load())},
		{name: "weft_drafted_tokens_total", help: "Tokens that replies of this head sent as drafts.", kind: prometheus.CounterValue, value: float64(n.drafted.Load())},
		{name: "weft_accepted_draft_tokens_total", help: "Drafted tokens that were accepted.", kind: prometheus.CounterValue, value: float64(n.accepted.Load())},
		{name: "weft_failovers_total", help: "Times that replies of this head went on under another plan after a loss.", kind: prometheus.CounterValue, value: float64(n.failovers.Load())},
		{name: "weft_memory_offered_bytes", help: "Memory that stages may take.", kind: prometheus.GaugeValue, value: float64(w.OfferedBytes)},
		{name: "weft_memory_reserved_bytes", help: "Memory that stages have reserved.", kind: prometheus.GaugeValue, value: float64(w.ReservedBytes)},
		{name: "weft_resident_bytes", help: "Resident memory of this process.", kind: prometheus.GaugeValue, value: float64(machine.Resident())},
	}
	if n.mesh != nil {
		t := n.mesh.gossip.Traffic()
		out = append(out,
			gauge{name: "weft_gossip_sent_bytes_total", help: "Bytes of gossip packets sent.", kind: prometheus.CounterValue, value: float64(t.SentBytes)},
			gauge{name: "weft_gossip_dropped_packets_total", help: "Gossip packets that could not be sent.", kind: prometheus.CounterValue, value: float64(t.Dropped)},
		)
	}
	out = append(out, n.weightFigures()...)
	out = append(out, n.gpuFigures(w.Plans)...)
	out = append(out, n.draftFigures()...)
	out = append(out, n.planFigures()...)
	for _, p := range w.Plans {
		labels := []string{"model", "stage"}
		values := []string{p.Plan.Name, fmt.Sprint(p.Stage)}
		add := func(name, help string, kind prometheus.ValueType, v float64) {
			out = append(out, gauge{name: name, help: help, kind: kind, labels: labels, values: values, value: v})
		}
		add("weft_stage_sessions", "Sessions of a stage.", prometheus.GaugeValue, float64(p.Sessions))
		add("weft_stage_kv_blocks", "KV blocks of a stage.", prometheus.GaugeValue, float64(p.KV.Blocks))
		add("weft_stage_kv_blocks_used", "KV blocks in use by sessions or kept for prefix reuse.", prometheus.GaugeValue, float64(p.KV.Used+p.KV.Cached))
		add("weft_stage_rows_total", "Positions that a stage has computed.", prometheus.CounterValue, float64(p.Rows))
		add("weft_stage_steps_total", "Steps that a stage has computed.", prometheus.CounterValue, float64(p.Steps))
		add("weft_stage_busy_seconds_total", "Time that a stage has spent computing.", prometheus.CounterValue, p.Busy.Seconds())
	}
	return out
}

// weightFigures count the weights that crossed this node's links.
func (n *Node) weightFigures() []gauge {
	received := gauge{name: "weft_weights_received_bytes_total", help: "Bytes of weights that came to this node.", kind: prometheus.CounterValue, labels: []string{"from"}}
	peers, hub := received, received
	peers.values, peers.value = []string{"peers"}, float64(n.moved.fromPeers.Load())
	hub.values, hub.value = []string{"hub"}, float64(n.moved.fromHub.Load())
	return []gauge{peers, hub, {name: "weft_weights_sent_bytes_total", help: "Bytes of weights that this node gave to others.", kind: prometheus.CounterValue, value: float64(n.moved.sent.Load())}}
}

// collector turns figures into metrics at each collection.
type collector struct{ n *Node }

// Describe implements prometheus.Collector: the metrics are unchecked, for
// stages come and go.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	for _, g := range c.n.figures() {
		for i := range g.values {
			g.values[i] = strings.ToValidUTF8(g.values[i], "?")
		}
		m, err := prometheus.NewConstMetric(prometheus.NewDesc(g.name, g.help, g.labels, nil), g.kind, g.value, g.values...)
		if err == nil {
			ch <- m
		}
	}
}

// WriteMetrics implements api.Node.
func (n *Node) WriteMetrics(ctx context.Context) ([]byte, error) {
	r := prometheus.NewRegistry()
	r.MustRegister(collector{n}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	families, err := r.Gather()
	if err != nil {
		return nil, fmt.Errorf("gather metrics: %w", err)
	}
	var b bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			return nil, fmt.Errorf("write metrics: %w", err)
		}
	}
	return b.Bytes(), nil
}
