package jinja

import "maps"

var builtinGlobals = map[string]Value{
	"range":           &function{name: "range", call: globalRange},
	"dict":            &function{name: "dict", call: func(rt *run, a *arguments) (Value, error) { return rt.newDict("dict", a) }},
	"namespace":       &function{name: "namespace", call: globalNamespace},
	"cycler":          &function{name: "cycler", call: globalCycler},
	"joiner":          &function{name: "joiner", call: globalJoiner},
	"raise_exception": &function{name: "raise_exception", call: raiseException},
	"strftime_now":    &function{name: "strftime_now", call: strftimeNow},
}

// maxRange is the longest range() a template may ask for, as in Jinja's sandbox.
const maxRange = 100_000

func globalRange(_ *run, a *arguments) (Value, error) {
	if len(a.names) > 0 || len(a.positional) < 1 || len(a.positional) > 3 {
		return nil, typeErrorf("range() takes 1 to 3 positional arguments")
	}
	var n [3]int64
	for i, v := range a.positional {
		var err error
		if n[i], err = integer(v, "range() arguments"); err != nil {
			return nil, err
		}
		if n[i] > 1<<40 || n[i] < -1<<40 {
			return nil, limitErrorf("range() with a bound beyond 2^40")
		}
	}
	r := &Range{start: n[0], stop: n[1], step: 1}
	switch len(a.positional) {
	case 1:
		r.start, r.stop = 0, n[0]
	case 3:
		r.step = n[2]
	}
	if r.step == 0 {
		return nil, valueErrorf("range() step must not be zero")
	}
	r.n = max((r.stop-r.start+r.step-sgn(r.step))/r.step, 0)
	if r.n > maxRange {
		return nil, limitErrorf("range() of %d items, more than the %d allowed", r.n, maxRange)
	}
	return r, nil
}

// newDict is dict(mapping or pairs, **named).
func (rt *run) newDict(fn string, a *arguments) (*Dict, error) {
	d := NewDict()
	if err := rt.charge(4 * len(a.names)); err != nil {
		return nil, err
	}
	if len(a.positional) > 1 {
		return nil, typeErrorf("%s() takes at most 1 positional argument", fn)
	}
	if len(a.positional) == 1 {
		if err := rt.mergeInto(d, a.positional[0]); err != nil {
			return nil, err
		}
	}
	for i, name := range a.names {
		d.SetString(name, a.values[i])
	}
	return d, nil
}

// mergeInto adds a mapping's entries, or a list of pairs, to d.
func (rt *run) mergeInto(d *Dict, v Value) error {
	if n, ok := length(v); ok {
		if err := rt.made(4 * n); err != nil {
			return err
		}
	}
	switch v := v.(type) {
	case *Dict:
		for i, k := range v.Keys() {
			if err := d.set(k, v.vals[i]); err != nil {
				return err
			}
		}
		return nil
	case *namespace:
		return rt.mergeInto(d, v.vars)
	case *Undefined:
		return nil
	}
	var entries []Value
	switch v := v.(type) {
	case *List:
		entries = v.Items
	case *Tuple:
		entries = v.Items
	case *view:
		entries = v.items
	case *iterator:
		entries = v.take()
	default:
		return typeErrorf("'%s' object is not a mapping or a list of pairs", typeName(v))
	}
	for _, e := range entries {
		pair, ok := pairOf(e)
		if !ok {
			return valueErrorf("a dict can only be made of pairs, got a '%s'", typeName(e))
		}
		if err := d.set(pair[0], pair[1]); err != nil {
			return err
		}
	}
	return nil
}

func pairOf(v Value) ([]Value, bool) {
	var items []Value
	switch v := v.(type) {
	case *List:
		items = v.Items
	case *Tuple:
		items = v.Items
	}
	return items, len(items) == 2
}

func globalNamespace(rt *run, a *arguments) (Value, error) {
	d, err := rt.newDict("namespace", a)
	return &namespace{d}, err
}

func globalCycler(_ *run, a *arguments) (Value, error) {
	if len(a.positional) == 0 {
		return nil, typeErrorf("cycler() needs at least one item")
	}
	items, pos := a.positional, 0
	next := &function{name: "next", call: func(*run, *arguments) (Value, error) {
		v := items[pos]
		pos = (pos + 1) % len(items)
		return v, nil
	}}
	reset := &function{name: "reset", call: func(*run, *arguments) (Value, error) {
		pos = 0
		return nil, nil
	}}
	return &function{name: "cycler", call: notCallable("cycler"), attrs: func(name string) (Value, bool) {
		v, ok := map[string]Value{"next": next, "reset": reset, "current": items[pos]}[name]
		return v, ok
	}}, nil
}

func notCallable(what string) func(*run, *arguments) (Value, error) {
	return func(*run, *arguments) (Value, error) { return nil, typeErrorf("a %s is not callable", what) }
}

func globalJoiner(_ *run, a *arguments) (Value, error) {
	p, err := a.bind("joiner", 0, "sep")
	if err != nil {
		return nil, err
	}
	used := false
	return &function{name: "joiner", call: func(*run, *arguments) (Value, error) {
		if !used {
			used = true
			return "", nil
		}
		return or(p[0], ", "), nil
	}}, nil
}

func raiseException(rt *run, a *arguments) (Value, error) {
	p, err := a.bind("raise_exception", 1, "message")
	if err != nil {
		return nil, err
	}
	text, err := rt.str(p[0])
	if err != nil {
		return nil, err
	}
	return nil, &Error{Kind: RaisedError, Message: text}
}

func strftimeNow(rt *run, a *arguments) (Value, error) {
	p, err := a.bind("strftime_now", 1, "format")
	if err != nil {
		return nil, err
	}
	format, ok := p[0].(string)
	if !ok {
		return nil, typeErrorf("strftime_now() needs a format text, not '%s'", typeName(p[0]))
	}
	if rt.now == nil {
		return nil, valueErrorf("strftime_now() is not available: the caller gave no clock")
	}
	if err := rt.text(len(format) * 16); err != nil {
		return nil, err
	}
	return strftime(rt.now(), format), nil
}

// merge returns the union of builtin tables that live in several files.
func merge[V any](tables ...map[string]V) map[string]V {
	all := map[string]V{}
	for _, t := range tables {
		maps.Copy(all, t)
	}
	return all
}
