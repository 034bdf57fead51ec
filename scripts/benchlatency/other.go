//go:build !linux

package main

import (
	"context"

	"github.com/weft-mesh/weft/scripts/netlab"
)

func measure(context.Context, *settings) error { return netlab.Available() }
