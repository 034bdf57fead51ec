// Command weft turns the machines of its user into one inference engine; see
// the README and node/cli.
package main

import (
	"os"

	"github.com/weft-mesh/weft/node"
	"github.com/weft-mesh/weft/node/bench"
	"github.com/weft-mesh/weft/node/cli"
	"github.com/weft-mesh/weft/node/devices"
)

// version is set at build time with -ldflags "-X main.version=...".
var version = "dev"

func main() {
	os.Exit(cli.Main(cli.App{Start: node.Start, Bench: bench.Run, Devices: devices.Test, Keys: node.RootKeys{}, Version: version}, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
