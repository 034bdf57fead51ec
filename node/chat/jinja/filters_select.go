package jinja

// selectFilters are the filters that take the name of a test or of another filter.
func selectFilters() map[string]builtin {
	return map[string]builtin{
		"map":        filterMap,
		"select":     selecting("select", false, true),
		"reject":     selecting("reject", false, false),
		"selectattr": selecting("selectattr", true, true),
		"rejectattr": selecting("rejectattr", true, false),
	}
}

// selecting makes select and its relatives: keep the items for which a test on the
// item, or on one of its attributes, comes out as wanted.
func selecting(name string, byAttr, want bool) builtin {
	return func(rt *run, a *arguments) (Value, error) {
		items, err := rt.items(a.positional[0])
		if err != nil {
			return nil, err
		}
		rest, get := a.positional[1:], plain
		if byAttr {
			if len(rest) == 0 {
				return nil, typeErrorf("%s() needs the name of an attribute", name)
			}
			get, rest = attrGetter(rest[0]), rest[1:]
		}
		check := func(v Value) (bool, error) { return truth(v), nil }
		if len(rest) > 0 {
			test, ok := rest[0].(string)
			if !ok {
				return nil, typeErrorf("%s() needs the name of a test, not a '%s'", name, typeName(rest[0]))
			}
			check = func(v Value) (bool, error) {
				args := append([]Value{v}, rest[1:]...)
				return rt.test(test, &arguments{positional: args, names: a.names, values: a.values})
			}
		}
		var kept []Value
		for _, item := range items {
			v, err := get(rt, item)
			if err != nil {
				return nil, err
			}
			ok, err := check(v)
			if err != nil {
				return nil, err
			}
			if ok == want {
				kept = append(kept, item)
			}
		}
		return &iterator{kept}, nil
	}
}

func filterMap(rt *run, a *arguments) (Value, error) {
	items, err := rt.items(a.positional[0])
	if err != nil {
		return nil, err
	}
	get, err := rt.mapper(a)
	if err != nil {
		return nil, err
	}
	out := make([]Value, len(items))
	for i, item := range items {
		if out[i], err = get(rt, item); err != nil {
			return nil, err
		}
	}
	return &iterator{out}, nil
}

// mapper is what map() does to each item: read an attribute or apply a filter.
func (rt *run) mapper(a *arguments) (getter, error) {
	if len(a.positional) == 1 {
		p, err := (&arguments{names: a.names, values: a.values}).bind("map", 1, "attribute", "default")
		if err != nil {
			return nil, err
		}
		return withDefault(attrGetter(p[0]), or(p[1], nil)), nil
	}
	name, ok := a.positional[1].(string)
	if !ok {
		return nil, typeErrorf("map() needs the name of a filter, not a '%s'", typeName(a.positional[1]))
	}
	return func(rt *run, v Value) (Value, error) {
		if err := rt.enter(); err != nil {
			return nil, err
		}
		defer rt.leave()
		args := append([]Value{v}, a.positional[2:]...)
		return rt.filter(name, &arguments{positional: args, names: a.names, values: a.values})
	}, nil
}
