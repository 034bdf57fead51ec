package api

import "time"

// Checkup is what a running node finds out for `weft doctor` with the help of
// its peers and the network.
type Checkup struct {
	Limits    ProcessLimits `json:"limits"`    // of the node's process
	TCPPorts  []int         `json:"tcp_ports"` // that it listens on
	Loopback  bool          `json:"loopback_only"`
	Multicast Multicast     `json:"multicast"`
	Peers     []PeerCheckup `json:"peers"`
}

// ProcessLimits are what the system lets a process use; 0 is not known and the
// largest number is no limit.
type ProcessLimits struct {
	Files        uint64 `json:"files"`
	LockedMemory uint64 `json:"locked_memory_bytes"`
	AddressSpace uint64 `json:"address_space_bytes"`
	Memory       uint64 `json:"memory_limit_bytes"`
	MemoryUsed   uint64 `json:"memory_in_use_bytes"`
}

// Multicast is what the local network answered by mDNS.
type Multicast struct {
	Self   bool   `json:"self"` // the node's own announcement was heard
	Others int    `json:"others"`
	Error  string `json:"error,omitempty"` // why nothing was asked
}

// PeerCheckup is what one peer says of this node.
type PeerCheckup struct {
	Name   string        `json:"name"`
	PeerID string        `json:"peer_id"`
	Error  string        `json:"error,omitempty"` // why it says nothing
	RTT    time.Duration `json:"rtt_ns"`
	// ClockAhead is how far the peer's clock is ahead of this one, give or take
	// half of RTT.
	ClockAhead time.Duration `json:"clock_ahead_ns"`
	Dialed     []Dialed      `json:"dialed,omitempty"`
	NotDialed  string        `json:"not_dialed,omitempty"`  // why it made no connection
	SmallError string        `json:"small_error,omitempty"` // of an echo of 64 bytes
	LargeError string        `json:"large_error,omitempty"` // of one of 32 KiB
}

// Dialed is a connection that a peer tried to this node.
type Dialed struct {
	Address string `json:"address"`
	Error   string `json:"error,omitempty"`
}
