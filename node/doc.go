// Package node is one machine's daemon: it joins the rooms of weft into a
// running node and is the only package that knows all of them. It answers what
// package api asks for, plans models over the mesh as a head, and serves stages
// to other heads.
//
// It does no arithmetic, speaks no wire format and draws no screen: those are
// shard's, p2p's and node/cli's. Start reading at Start, then Node.Generate,
// which is the way of a prompt; planner.go makes plans ready, adopt.go takes up
// those of other heads, idle.go lets go of them; loader.go brings stages into
// being, library.go opens models.
package node
