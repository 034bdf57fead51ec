package jinja

// loopState is the variable "loop" inside a for.
type loopState struct {
	node   *forStmt
	outer  *scope
	items  []Value
	index  int
	depth0 int
	// changed holds the last arguments of loop.changed(), nil before the first call.
	changed *Tuple
}

func (s *forStmt) exec(rt *run, sc *scope) error {
	source, err := rt.eval(s.source, sc)
	if err != nil {
		return at(s.line, err)
	}
	return at(s.line, s.loop(rt, sc, source, 0))
}

// loop runs the body over source; depth0 counts the recursion of a recursive loop.
func (s *forStmt) loop(rt *run, sc *scope, source Value, depth0 int) error {
	items, err := rt.items(source)
	if err != nil {
		return err
	}
	if s.filter != nil {
		if items, err = s.keep(rt, sc, items); err != nil {
			return err
		}
	}
	state := &loopState{node: s, outer: sc, items: items, depth0: depth0}
	for i, item := range items {
		state.index = i
		inner := &scope{parent: sc}
		inner.set("loop", state)
		if err := rt.assign(s.target, item, inner); err != nil {
			return err
		}
		switch err := rt.exec(s.body, inner); err {
		case nil, errContinue:
		case errBreak:
			return nil
		default:
			return err
		}
	}
	if len(items) == 0 {
		return rt.exec(s.otherwise, &scope{parent: sc})
	}
	return nil
}

func (s *forStmt) keep(rt *run, sc *scope, items []Value) ([]Value, error) {
	var kept []Value
	for _, item := range items {
		inner := &scope{parent: sc}
		if err := rt.assign(s.target, item, inner); err != nil {
			return nil, err
		}
		v, err := rt.eval(s.filter, inner)
		if err != nil {
			return nil, err
		}
		if truth(v) {
			kept = append(kept, item)
		}
	}
	return kept, nil
}

// call is loop(children) in a recursive loop.
func (l *loopState) call(rt *run, a *arguments) (Value, error) {
	if !l.node.recursive {
		return nil, typeErrorf("'loop' can only be called in a loop marked 'recursive'")
	}
	p, err := a.bind("loop", 1, "iterable")
	if err != nil {
		return nil, err
	}
	if err := rt.enter(); err != nil {
		return nil, err
	}
	defer rt.leave()
	return rt.captureValue(func() error { return l.node.loop(rt, l.outer, p[0], l.depth0+1) })
}

func (rt *run) captureValue(f func() error) (Value, error) {
	text, err := rt.capture(f)
	if err != nil {
		return nil, err
	}
	return text, nil
}

func (l *loopState) attribute(name string) (Value, bool) {
	i, n := int64(l.index), int64(len(l.items))
	switch name {
	case "index":
		return i + 1, true
	case "index0":
		return i, true
	case "revindex":
		return n - i, true
	case "revindex0":
		return n - i - 1, true
	case "first":
		return i == 0, true
	case "last":
		return i == n-1, true
	case "length":
		return n, true
	case "depth":
		return int64(l.depth0 + 1), true
	case "depth0":
		return int64(l.depth0), true
	case "previtem":
		return l.neighbour(l.index-1, "there is no previous item"), true
	case "nextitem":
		return l.neighbour(l.index+1, "there is no next item"), true
	case "cycle":
		return &function{name: "cycle", call: l.cycle}, true
	case "changed":
		return &function{name: "changed", call: l.hasChanged}, true
	}
	return nil, false
}

func (l *loopState) neighbour(i int, message string) Value {
	if i < 0 || i >= len(l.items) {
		return &Undefined{message: message}
	}
	return l.items[i]
}

func (l *loopState) cycle(_ *run, a *arguments) (Value, error) {
	if len(a.positional) == 0 {
		return nil, typeErrorf("no items for cycling given")
	}
	return a.positional[l.index%len(a.positional)], nil
}

func (l *loopState) hasChanged(rt *run, a *arguments) (Value, error) {
	now := &Tuple{Items: append([]Value(nil), a.positional...)}
	if l.changed != nil {
		same, err := rt.equal(l.changed, now, 0)
		if err != nil || same {
			return false, err
		}
	}
	l.changed = now
	return true, nil
}
