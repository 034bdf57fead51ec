package node

import (
	"time"

	"github.com/weft-mesh/weft/node/machine"
	"github.com/weft-mesh/weft/p2p/gossip"
)

// tidyAfter is how long nobody has come before what the comings have left in
// memory goes back to the system: handshakes with many members at once make
// garbage of as much as the connections keep.
const tidyAfter = 10 * time.Second

// tidy returns memory after members have come, until the node stops.
func (n *Node) tidy() {
	events, stop := n.mesh.gossip.Watch()
	defer stop()
	timer := time.NewTimer(tidyAfter)
	defer timer.Stop()
	for {
		select {
		case <-n.ctx.Done():
			return
		case e, ok := <-events:
			if !ok {
				return
			}
			if e.Kind == gossip.Join {
				timer.Reset(tidyAfter)
			}
		case <-timer.C:
			machine.ReturnMemory()
		}
	}
}
