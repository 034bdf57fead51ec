// Command run runs a program in every host of a network lab (package netlab):
//
//	sudo go run ./scripts/netlab/run [-hosts a,b] [-delay 5ms] [-rate 1000] -- PROGRAM ARGS...
//
// Hosts are written NAME or NAME@SUBNET. The program finds its host's name in
// NETLAB_HOST, its address in NETLAB_ADDR and those of all in NETLAB_HOSTS
// ("a=10.77.0.1 b=10.77.0.2"); what it prints is prefixed with the name. Lines
// on the standard input change the network while it runs:
//
//	path a b delay=20ms jitter=1ms loss=0.01 rate=100 cut   both ways between a and b
//	cut a          all of a's cables out
//	mend a         and in again
//	in a PROGRAM   run something more in a, by the shell
//
// Rates are in Mbit/s. It ends when the programs have ended; Ctrl-C ends them.
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "netlab:", err)
		os.Exit(1)
	}
}
