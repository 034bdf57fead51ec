package host

// Connections counts the open connections.
func (h *Host) Connections() int { return len(h.lib.Network().Conns()) }
