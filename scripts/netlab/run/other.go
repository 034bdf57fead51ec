//go:build !linux

package main

import "github.com/weft-mesh/weft/scripts/netlab"

func run([]string) error { return netlab.Available() }
