// Command benchlatency measures how much of the network speculation hides: weft
// nodes in a network lab (scripts/netlab), two and four stages, links of several
// round trips, prompts of four kinds, speculation off, synchronous, asynchronous
// and as weft chooses, and llama.cpp's RPC backend on the same links. All ways of
// a prompt are asked in turn, one reply a sample, and what counts are the ratios
// of the turns. It checks that every way gives the same bytes, and writes the
// medians into a document between marks of its own.
//
// It is started by scripts/bench-latency. Start reading at bench.all.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// settings are one run's.
type settings struct {
	weft   string // the binary
	model  string // a GGUF file
	root   string // system with llama.cpp in it, "" for none
	doc    string // document whose section is written anew, "" for none
	stages []int
	rtts   []time.Duration
	rounds int
	tokens int // of a reply
}

func main() {
	var s settings
	var stages, rtts string
	short := flag.Bool("short", false, "two stages, 0 and 10 ms, one round: about two minutes")
	flag.StringVar(&s.weft, "weft", "./weft", "the binary to measure")
	flag.StringVar(&s.model, "model", "", "GGUF file")
	flag.StringVar(&s.root, "root", "", "directory of a system with llama.cpp's RPC server, from scripts/bench-llamacpp; empty: weft alone")
	flag.StringVar(&s.doc, "doc", "", "document whose section is written anew")
	flag.StringVar(&stages, "stages", "2,4", "numbers of stages, each on a node with one thread")
	flag.StringVar(&rtts, "rtt", "0,1,5,10,20,40", "round trips between any two nodes, in ms")
	flag.IntVar(&s.rounds, "rounds", 3, "replies of each kind and way")
	flag.IntVar(&s.tokens, "n", 64, "tokens of a reply")
	flag.Parse()
	if *short {
		stages, rtts, s.rounds = "2", "0,10", 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := s.parse(stages, rtts)
	if err == nil {
		err = measure(ctx, &s)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchlatency:", err)
		stop()
		os.Exit(1)
	}
}

func (s *settings) parse(stages, rtts string) error {
	if s.model == "" {
		return errors.New("-model is missing; scripts/bench-latency gives the demo model")
	}
	if s.rounds < 1 || s.tokens < 8 {
		return errors.New("-rounds must be at least 1 and -n at least 8")
	}
	for t := range strings.SplitSeq(stages, ",") {
		n, err := strconv.Atoi(t)
		if err != nil || n < 1 || n > 16 {
			return fmt.Errorf("-stages is %q; give numbers from 1 to 16, as 2,4", stages)
		}
		s.stages = append(s.stages, n)
	}
	for t := range strings.SplitSeq(rtts, ",") {
		ms, err := strconv.ParseFloat(t, 64)
		if err != nil || ms < 0 || ms > 1000 {
			return fmt.Errorf("-rtt is %q; give milliseconds, as 0,10,40", rtts)
		}
		s.rtts = append(s.rtts, time.Duration(ms*float64(time.Millisecond)))
	}
	return nil
}
