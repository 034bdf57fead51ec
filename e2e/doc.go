// Package e2e tries weft as its user does: real processes of the built program
// on loopback, killed, stopped and asked over the command line and HTTP.
//
// It holds tests only and is imported by nobody. Start reading at
// process_test.go, which starts and ends the processes; what can be tried
// within one process is in package node.
package e2e
