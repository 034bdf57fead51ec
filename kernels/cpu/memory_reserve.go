//go:build darwin || freebsd

package cpu

// mapNoReserve is nothing here: these systems commit pages when used.
const mapNoReserve = 0
