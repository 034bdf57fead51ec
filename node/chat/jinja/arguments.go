package jinja

import "slices"

// arguments are the evaluated arguments of a call.
type arguments struct {
	positional []Value
	names      []string
	values     []Value
}

func (a *arguments) named(name string) (Value, bool) {
	if i := slices.Index(a.names, name); i >= 0 {
		return a.values[i], true
	}
	return nil, false
}

// absent stands for a parameter that the call left out.
type absent struct{}

func given(v Value) bool { _, none := v.(absent); return !none }

// bind matches the arguments with the parameters of a Go function, the first
// required of which must be given.
func (a *arguments) bind(fn string, required int, params ...string) ([]Value, error) {
	if len(a.positional) > len(params) {
		return nil, typeErrorf("%s() takes at most %d arguments, got %d", fn, len(params), len(a.positional))
	}
	out := make([]Value, len(params))
	for i := range out {
		out[i] = absent{}
	}
	copy(out, a.positional)
	for i, name := range a.names {
		at := slices.Index(params, name)
		if at < 0 {
			return nil, typeErrorf("%s() got an unexpected keyword argument '%s'", fn, name)
		}
		if given(out[at]) {
			return nil, typeErrorf("%s() got two values for argument '%s'", fn, name)
		}
		out[at] = a.values[i]
	}
	for i, v := range out[:required] {
		if !given(v) {
			return nil, typeErrorf("%s() needs the argument '%s'", fn, params[i])
		}
	}
	return out, nil
}

// or returns v, or the default when the call left v out.
func or(v, otherwise Value) Value {
	if given(v) {
		return v
	}
	return otherwise
}

// evaluate computes the arguments of a call, *list and **dict included.
func (x *argExprs) evaluate(rt *run, sc *scope, first ...Value) (*arguments, error) {
	a := &arguments{positional: first}
	for _, e := range x.positional {
		v, err := rt.eval(e, sc)
		if err != nil {
			return nil, err
		}
		a.positional = append(a.positional, v)
	}
	for i, e := range x.named {
		v, err := rt.eval(e, sc)
		if err != nil {
			return nil, err
		}
		a.names, a.values = append(a.names, x.names[i]), append(a.values, v)
	}
	if x.list != nil {
		v, err := rt.eval(x.list, sc)
		if err != nil {
			return nil, err
		}
		items, err := rt.items(v)
		if err != nil {
			return nil, err
		}
		a.positional = append(a.positional, items...)
	}
	return a, x.spread(rt, sc, a)
}

func (x *argExprs) spread(rt *run, sc *scope, a *arguments) error {
	if x.dict == nil {
		return nil
	}
	v, err := rt.eval(x.dict, sc)
	if err != nil {
		return err
	}
	d, ok := v.(*Dict)
	if !ok {
		return typeErrorf("the argument after ** must be a dict, not '%s'", typeName(v))
	}
	if err := rt.charge(len(d.keys) * (1 + len(x.names)/16)); err != nil {
		return err
	}
	for i, k := range d.keys {
		name, ok := k.(string)
		if !ok {
			return typeErrorf("the keys of the dict after ** must be strings")
		}
		if slices.Contains(x.names, name) {
			return typeErrorf("argument '%s' is given twice", name)
		}
		a.names, a.values = append(a.names, name), append(a.values, d.vals[i])
	}
	return nil
}
