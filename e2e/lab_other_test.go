//go:build unix && !linux

package e2e_test

import (
	"testing"

	"github.com/weft-mesh/weft/scripts/netlab"
)

func TestLabNodesOnOneNetwork(t *testing.T) { t.Skip("not run:", netlab.Available()) }
