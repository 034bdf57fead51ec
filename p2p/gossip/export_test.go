package gossip

// Halt stops without telling the others, as a crash would.
func (g *Gossip) Halt() error { return g.halt() }
