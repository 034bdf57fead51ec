// Package discovery finds the other members of a mesh and connects to them:
// by mDNS on the local network, from a cache of members met before, and at
// addresses that the user gave. It keeps trying, with growing pauses. Who
// really is a member the host decides when it connects; what members then
// tell each other is gossip's business.
//
// It never announces a loopback address and never connects to more than a
// bounded number of candidates. Start with Run.
package discovery
