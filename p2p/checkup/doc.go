// Package checkup lets members find out how they are seen from each other: how
// far their clocks are apart, whether a node's port can be connected to from
// outside, and whether large packets survive the path. It changes nothing and
// dials nobody but the member that asks, at the address it asks from.
//
// Start reading at Ask; Serve is the other side.
package checkup
