package main

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// schedule puts a run of vector instructions in an order in which a processor
// that executes them in order, as small arm64 cores do, waits little for
// results: at each step the instruction whose results are needed over the
// longest way. What each instruction computes stays as it is. Processors that
// order instructions themselves do not mind.
func schedule(list []ins) []ins {
	nodes := dependencies(list)
	for i := len(nodes) - 1; i >= 0; i-- {
		n := &nodes[i]
		n.rest = n.latency
		for to, wait := range n.next {
			n.rest = max(n.rest, wait+nodes[to].rest)
		}
	}
	var out []ins
	for now := 0; len(out) < len(list); now++ {
		best := -1
		for i := range nodes {
			n := &nodes[i]
			if n.done || n.waits > 0 {
				continue
			}
			if best < 0 || sooner(n, &nodes[best], now) {
				best = i
			}
		}
		n := &nodes[best]
		now = max(now, n.ready)
		n.done = true
		out = append(out, list[best])
		for to, wait := range n.next {
			nodes[to].waits--
			nodes[to].ready = max(nodes[to].ready, now+wait)
		}
	}
	return out
}

// sooner reports whether a goes before b, which is the earlier in the list.
func sooner(a, b *node, now int) bool {
	if at, bt := max(a.ready, now), max(b.ready, now); at != bt {
		return at < bt
	}
	return a.rest > b.rest
}

// node is an instruction among those that it depends on.
type node struct {
	next    map[int]int // instructions that must follow, and after how many cycles
	waits   int         // instructions that must come before and have not
	ready   int         // the cycle when their results are there
	latency int
	rest    int // cycles until the last result that needs this one
	done    bool
}

// dependencies finds what must follow what: uses follow the results that they
// read, results the uses of what they overwrite, and stores keep their place
// among loads and stores.
func dependencies(list []ins) []node {
	nodes := make([]node, len(list))
	writer := map[vreg]int{}
	readers := map[vreg][]int{}
	var loads []int
	store := -1
	for i, in := range list {
		nodes[i] = node{next: map[int]int{}, latency: latencyOf(in)}
		follow := func(before, wait int) {
			if old, ok := nodes[before].next[i]; !ok {
				nodes[before].next[i] = wait
				nodes[i].waits++
			} else if wait > old {
				nodes[before].next[i] = wait
			}
		}
		reads, writes := in.registers()
		for _, v := range reads {
			if w, ok := writer[v]; ok {
				follow(w, nodes[w].latency)
			}
			readers[v] = append(readers[v], i)
		}
		for _, v := range writes {
			for _, r := range readers[v] {
				if r != i {
					follow(r, 0)
				}
			}
			if w, ok := writer[v]; ok {
				follow(w, 1)
			}
			writer[v], readers[v] = i, nil
		}
		switch {
		case in.is("ldr", "ld2"):
			if store >= 0 {
				follow(store, 1)
			}
			loads = append(loads, i)
		case in.is("str", "st2"):
			for _, l := range append(loads, store) {
				if l >= 0 {
					follow(l, 0)
				}
			}
			store, loads = i, nil
		}
	}
	return nodes
}

func (i ins) is(names ...string) bool {
	name, _, _ := strings.Cut(i.text, " ")
	return slices.Contains(names, name)
}

var vectorRegister = regexp.MustCompile(`\b(?:v(\d+)\.|[qds](\d+)\b)`)

// registers gives the vector registers that the instruction reads and writes:
// the first one named is written, and read where it accumulates.
func (i ins) registers() (reads, writes []vreg) {
	var all []vreg
	for _, m := range vectorRegister.FindAllStringSubmatch(i.text, -1) {
		n, err := strconv.Atoi(m[1] + m[2])
		if err != nil {
			panic(i.text)
		}
		all = append(all, vreg(n))
	}
	switch {
	case i.is("str", "st2"):
		return all, nil
	case i.is("ld2"):
		return nil, all
	case i.is("fmla", "fmls", "sdot", "smlal", "smlal2", "sadalp", "bit", "xtn2", "fcvtn2"):
		return all, all[:1]
	}
	return all[1:], all[:1]
}

// latencyOf is about how many cycles small cores take for a result.
func latencyOf(i ins) int {
	switch {
	case i.is("fdiv"):
		return 13
	case i.is("ldr", "ld2", "fmla", "fmls", "fmul", "fadd", "fsub", "sdot", "smull", "smull2", "smlal", "smlal2", "scvtf", "fcvtl", "fcvtl2"):
		return 4
	}
	return 3
}
