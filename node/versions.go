package node

import (
	"fmt"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/p2p/gossip"
)

// versions are what decides whether two nodes work together.
type versions struct {
	wire, contract uint32
	software       string
}

// ownVersions are this program's.
func (n *Node) ownVersions() versions {
	return versions{wire: WireVersion, contract: kernels.ContractVersion, software: "weft " + n.cfg.Version}
}

// gap explains why a node of other versions is not planned with and who has to
// do what about it; "" where the two work together.
func (v versions) gap(name string, other versions) string {
	who := func(old bool) string {
		if old {
			return "upgrade " + name
		}
		return "upgrade this node"
	}
	wire, contract := other.wire != v.wire, other.contract != v.contract
	switch {
	case wire && contract && (other.wire < v.wire) != (other.contract < v.contract):
		return fmt.Sprintf("it speaks wire version %d, this node %d, and computes by contract %d, this node by %d: run one weft version on both", other.wire, v.wire, other.contract, v.contract)
	case contract:
		return fmt.Sprintf("it computes by contract %d, this node by %d, so its bits would differ: %s", other.contract, v.contract, who(other.contract < v.contract))
	case wire:
		return fmt.Sprintf("it speaks wire version %d, this node %d: %s", other.wire, v.wire, who(other.wire < v.wire))
	}
	return ""
}

// note says that two nodes run different builds that work together.
func (v versions) note(other versions) string {
	if v.wire != other.wire || v.contract != other.contract || other.software == "" || v.software == other.software {
		return ""
	}
	return fmt.Sprintf("runs %s, this node %s: they work together", other.software, v.software)
}

// versionGap explains why a node of another version is not planned with.
func versionGap(r *gossip.Record) string {
	own := versions{wire: WireVersion, contract: kernels.ContractVersion}
	return own.gap("it", versions{wire: r.Wire, contract: r.Contract})
}
