package gossip

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/libp2p/go-libp2p/core/peer"
)

// delegate is Gossip as memberlist's listener. memberlist calls it with its
// own lock held: it must not block nor call back.
type delegate Gossip

type noticeKind uint8

const (
	noticeJoin noticeKind = iota + 1
	noticeLeave
	noticeUpdate
	noticeHearsay // somebody says that a node is alive that we have not met
)

type notice struct {
	kind noticeKind
	id   peer.ID
}

var (
	errNotMet   = errors.New("not met in person")
	errImposter = errors.New("its address does not belong to its name")
)

func (d *delegate) NodeMeta(limit int) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.meta.encode(min(limit, maxMeta))
}

func (d *delegate) NotifyMsg([]byte)                {}
func (d *delegate) GetBroadcasts(int, int) [][]byte { return nil }
func (d *delegate) LocalState(bool) []byte          { return nil }
func (d *delegate) MergeRemoteState([]byte, bool)   {}
func (d *delegate) AckPayload() []byte              { return nil }

// NotifyAlive decides whether a claim that a node is alive may be believed.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	id, err := peer.Decode(n.Name)
	if err != nil {
		return fmt.Errorf("name: %w", err)
	}
	if !n.Addr.Equal(address{id}.ip()) || n.Port != memberlistPort {
		return errImposter
	}
	if id == d.host.ID() {
		return nil
	}
	m, err := decodeMeta(n.Meta)
	if err != nil {
		return err
	}
	_, connected := d.host.Member(id)
	d.mu.Lock()
	defer d.mu.Unlock()
	g := (*Gossip)(d)
	if d.contacts[id] == nil && !connected && g.unmet() >= maxHearsay {
		return fmt.Errorf("%w, and %d others wait to be met", errNotMet, maxHearsay)
	}
	c := g.contact(id)
	if c == nil {
		return fmt.Errorf("more than %d nodes", maxContacts)
	}
	if c.listed {
		return nil
	}
	if connected && !c.departed {
		c.note(m)
		return nil
	}
	if c.addrs == nil {
		c.addrs = m.addrs
	}
	d.notices.Emit(notice{noticeHearsay, id})
	return errNotMet
}

func (d *delegate) NotifyJoin(n *memberlist.Node) {
	d.change(n, noticeJoin, func(c *contact) bool {
		c.alive, c.listed, c.departed, c.since, c.tries = true, true, false, time.Now(), 0
		return true
	})
}

func (d *delegate) NotifyUpdate(n *memberlist.Node) {
	d.change(n, noticeUpdate, func(c *contact) bool { return c.listed })
}

func (d *delegate) NotifyLeave(n *memberlist.Node) {
	d.change(n, noticeLeave, func(c *contact) bool {
		c.alive = false
		return c.unlist()
	})
}

// change applies what memberlist has found out; the notice is given when apply
// says that it is news.
func (d *delegate) change(n *memberlist.Node, kind noticeKind, apply func(*contact) bool) {
	id, err := peer.Decode(n.Name)
	if err != nil || id == d.host.ID() {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c := (*Gossip)(d).contact(id)
	if c == nil {
		return
	}
	if m, err := decodeMeta(n.Meta); err == nil {
		c.note(m)
	}
	if apply(c) {
		d.notices.Emit(notice{kind, id})
	}
}

func (d *delegate) NotifyPingComplete(n *memberlist.Node, rtt time.Duration, _ []byte) {
	id, err := peer.Decode(n.Name)
	if err != nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.contacts[id]; c != nil {
		c.measured(rtt)
	}
}

// logWriter turns memberlist's lines into records of the node's own log.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(b []byte) (int, error) {
	line := strings.TrimSpace(string(b))
	// memberlist's errors are a peer's misfortunes, which events tell better.
	if strings.Contains(line, "[ERR]") {
		w.log.Info("memberlist", "line", line)
	} else {
		w.log.Debug("memberlist", "line", line)
	}
	return len(b), nil
}
