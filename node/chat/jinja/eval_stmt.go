package jinja

import "errors"

// The two loop controls travel as errors, which the nearest loop takes.
var (
	errBreak    = errors.New("break outside of a loop")
	errContinue = errors.New("continue outside of a loop")
)

func (rt *run) exec(body []stmt, sc *scope) error {
	if err := rt.enter(); err != nil {
		return err
	}
	defer rt.leave()
	for _, s := range body {
		if err := rt.charge(0); err != nil {
			return err
		}
		if err := s.exec(rt, sc); err != nil {
			return err
		}
	}
	return nil
}

func (rt *run) eval(x expr, sc *scope) (Value, error) {
	if err := rt.enter(); err != nil {
		return nil, err
	}
	v, err := x.eval(rt, sc)
	rt.leave()
	return v, err
}

func (s *textStmt) exec(rt *run, _ *scope) error { return rt.write(s.text) }

func (s *printStmt) exec(rt *run, sc *scope) error {
	v, err := rt.eval(s.x, sc)
	if err != nil {
		return at(s.line, err)
	}
	text, err := rt.str(v)
	if err == nil {
		err = rt.write(text)
	}
	return at(s.line, err)
}

func (s *ifStmt) exec(rt *run, sc *scope) error {
	v, err := rt.eval(s.cond, sc)
	if err != nil {
		return at(s.line, err)
	}
	if truth(v) {
		return at(s.line, rt.exec(s.then, sc))
	}
	return at(s.line, rt.exec(s.more, sc))
}

func (s *setStmt) exec(rt *run, sc *scope) error {
	v, err := rt.eval(s.x, sc)
	if err == nil {
		err = rt.assign(s.target, v, sc)
	}
	return at(s.line, err)
}

func (s *setBlockStmt) exec(rt *run, sc *scope) error {
	text, err := rt.capture(func() error { return rt.exec(s.body, &scope{parent: sc}) })
	if err != nil {
		return at(s.line, err)
	}
	var v Value = text
	if s.filter != nil {
		if v, err = rt.eval(s.filter, withBlockText(sc, text)); err != nil {
			return at(s.line, err)
		}
	}
	return at(s.line, rt.assign(s.target, v, sc))
}

// blockText is the variable, unwritable in a template, that holds the text a
// block's filter chain starts from.
const blockText = "|"

func withBlockText(sc *scope, text string) *scope {
	inner := &scope{parent: sc}
	inner.set(blockText, text)
	return inner
}

func (s *filterBlockStmt) exec(rt *run, sc *scope) error {
	text, err := rt.capture(func() error { return rt.exec(s.body, &scope{parent: sc}) })
	if err != nil {
		return at(s.line, err)
	}
	v, err := rt.eval(s.filter, withBlockText(sc, text))
	if err != nil {
		return at(s.line, err)
	}
	out, err := rt.str(v)
	if err == nil {
		err = rt.write(out)
	}
	return at(s.line, err)
}

func (s *withStmt) exec(rt *run, sc *scope) error {
	inner := &scope{parent: sc}
	for i, to := range s.targets {
		v, err := rt.eval(s.values[i], sc)
		if err == nil {
			err = rt.assign(to, v, inner)
		}
		if err != nil {
			return at(s.line, err)
		}
	}
	return at(s.line, rt.exec(s.body, inner))
}

func (breakStmt) exec(*run, *scope) error    { return errBreak }
func (continueStmt) exec(*run, *scope) error { return errContinue }

// assign stores v into a target, unpacking tuples.
func (rt *run) assign(to target, v Value, sc *scope) error {
	switch {
	case to.tuple != nil:
		items, err := rt.items(v)
		if err != nil {
			return err
		}
		if len(items) != len(to.tuple) {
			return valueErrorf("cannot unpack %d values into %d names", len(items), len(to.tuple))
		}
		for i, t := range to.tuple {
			if err := rt.assign(t, items[i], sc); err != nil {
				return err
			}
		}
		return nil
	case to.attr != "":
		holder, _ := sc.lookup(to.name)
		ns, ok := holder.(*namespace)
		if !ok {
			return typeErrorf("cannot assign %s.%s: only attributes of a namespace() can be set", to.name, to.attr)
		}
		ns.vars.SetString(to.attr, v)
		return nil
	}
	sc.set(to.name, v)
	return nil
}
