package jinja

import (
	"slices"
	"strconv"
	"strings"
)

var listFilters = map[string]builtin{
	"length":   filterLength,
	"count":    filterLength,
	"list":     filterList,
	"first":    filterFirst,
	"last":     filterLast,
	"reverse":  filterReverse,
	"items":    filterItems,
	"dictsort": filterDictSort,
	"sort":     filterSort,
	"unique":   filterUnique,
	"min":      extreme("min", -1),
	"max":      extreme("max", 1),
	"sum":      filterSum,
	"batch":    filterBatch,
	"slice":    filterSlice,
	"groupby":  filterGroupBy,
	"default":  filterDefault,
	"d":        filterDefault,
	"attr":     filterAttr,
}

// plain is the getter that gives the item itself.
func plain(_ *run, v Value) (Value, error) { return v, nil }

// attrGetter reads an attribute path such as "function.name" or "0.id".
func attrGetter(path Value) func(*run, Value) (Value, error) {
	if path == nil {
		return plain
	}
	steps := []Value{path}
	if s, ok := path.(string); ok {
		steps = steps[:0]
		for _, part := range strings.Split(s, ".") {
			if i, err := strconv.ParseInt(part, 10, 64); err == nil && isDecimal(part[0]) {
				steps = append(steps, i)
			} else {
				steps = append(steps, part)
			}
		}
	}
	return func(rt *run, v Value) (Value, error) {
		for _, step := range steps {
			var err error
			if v, err = rt.item(v, step); err != nil {
				return nil, err
			}
			if err := rt.charge(0); err != nil {
				return nil, err
			}
		}
		return v, nil
	}
}

// foldCase makes a getter ignore the case of texts.
func foldCase(get func(*run, Value) (Value, error), caseSensitive bool) func(*run, Value) (Value, error) {
	if caseSensitive {
		return get
	}
	return func(rt *run, v Value) (Value, error) {
		v, err := get(rt, v)
		if s, ok := v.(string); ok {
			if err == nil {
				err = rt.scan(s)
			}
			return lower(s), err
		}
		return v, err
	}
}

func filterLength(rt *run, a *arguments) (Value, error) {
	v, _, err := a.filterArgs("length")
	if err != nil {
		return nil, err
	}
	if err := rt.scan(v); err != nil {
		return nil, err
	}
	n, ok := length(v)
	if !ok {
		return nil, typeErrorf("object of type '%s' has no len()", typeName(v))
	}
	return int64(n), nil
}

// valueItems is filterArgs for filters on iterables.
func valueItems(rt *run, a *arguments, name string, params ...string) ([]Value, []Value, error) {
	v, p, err := a.filterArgs(name, params...)
	if err != nil {
		return nil, nil, err
	}
	items, err := rt.items(v)
	return items, p, err
}

func filterList(rt *run, a *arguments) (Value, error) {
	items, _, err := valueItems(rt, a, "list")
	return &List{Items: slices.Clone(items)}, err
}

func filterFirst(rt *run, a *arguments) (Value, error) {
	if it, ok := a.positional[0].(*iterator); ok && len(it.rest) > 0 {
		v := it.rest[0]
		it.rest = it.rest[1:]
		return v, nil
	}
	items, _, err := valueItems(rt, a, "first")
	if err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return &Undefined{message: "No first item, sequence was empty."}, nil
	}
	return items[0], nil
}

func filterLast(rt *run, a *arguments) (Value, error) {
	if _, ok := a.positional[0].(*iterator); ok {
		return nil, typeErrorf("'generator' object is not reversible; add |list before |last")
	}
	items, _, err := valueItems(rt, a, "last")
	if err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return &Undefined{message: "No last item, sequence was empty."}, nil
	}
	return items[len(items)-1], nil
}

func filterReverse(rt *run, a *arguments) (Value, error) {
	items, _, err := valueItems(rt, a, "reverse")
	if err != nil {
		return nil, err
	}
	items = slices.Clone(items)
	slices.Reverse(items)
	if _, ok := a.positional[0].(string); ok {
		return rt.joinText("", items, plain, rt.str)
	}
	return &iterator{items}, nil
}

func filterItems(rt *run, a *arguments) (Value, error) {
	v, _, err := a.filterArgs("items")
	if err != nil {
		return nil, err
	}
	switch d := v.(type) {
	case *Undefined:
		return &iterator{}, nil
	case *Dict:
		return &iterator{d.pairs()}, rt.made(d.Len())
	}
	return nil, typeErrorf("can only get item pairs from a mapping, not '%s'", typeName(v))
}

// extreme is min (want -1) and max (want 1).
func extreme(name string, want int) builtin {
	return func(rt *run, a *arguments) (Value, error) {
		items, p, err := valueItems(rt, a, name, "case_sensitive", "attribute")
		if err != nil {
			return nil, err
		}
		if len(items) == 0 {
			return &Undefined{message: "No aggregated item, sequence was empty."}, nil
		}
		get := foldCase(attrGetter(or(p[1], nil)), truth(or(p[0], false)))
		best, bestKey := items[0], Value(nil)
		for i, item := range items {
			key, err := get(rt, item)
			if err != nil {
				return nil, err
			}
			if i > 0 {
				c, _, err := rt.compare(key, bestKey, "<", 0)
				if err != nil {
					return nil, err
				}
				if c != want {
					continue
				}
			}
			best, bestKey = item, key
		}
		return best, nil
	}
}

func filterSum(rt *run, a *arguments) (Value, error) {
	items, p, err := valueItems(rt, a, "sum", "attribute", "start")
	if err != nil {
		return nil, err
	}
	get, total := attrGetter(or(p[0], nil)), or(p[1], int64(0))
	for _, item := range items {
		v, err := get(rt, item)
		if err != nil {
			return nil, err
		}
		if total, err = rt.binaryOp("+", total, v); err != nil {
			return nil, err
		}
	}
	return total, nil
}

func filterBatch(rt *run, a *arguments) (Value, error) {
	items, p, err := valueItems(rt, a, "batch", "linecount", "fill_with")
	if err != nil {
		return nil, err
	}
	n, err := integer(or(p[0], nil), "batch linecount")
	if err != nil {
		return nil, err
	}
	if n < 1 || n > maxItems {
		return nil, valueErrorf("batch linecount must be from 1 to %d", maxItems)
	}
	var out []Value
	for len(items) > 0 {
		row := slices.Clone(items[:min(int(n), len(items))])
		items = items[len(row):]
		if fill := or(p[1], nil); fill != nil && len(row) < int(n) {
			if err := rt.made(int(n)); err != nil {
				return nil, err
			}
			for len(row) < int(n) {
				row = append(row, fill)
			}
		}
		out = append(out, &List{Items: row})
	}
	return &iterator{out}, nil
}

func filterSlice(rt *run, a *arguments) (Value, error) {
	items, p, err := valueItems(rt, a, "slice", "slices", "fill_with")
	if err != nil {
		return nil, err
	}
	n64, err := integer(or(p[0], nil), "slice count")
	if err != nil {
		return nil, err
	}
	if n64 < 1 || n64 > maxItems {
		return nil, valueErrorf("slice count must be from 1 to %d", maxItems)
	}
	n := int(n64)
	if err := rt.made(n); err != nil {
		return nil, err
	}
	each, longer := len(items)/n, len(items)%n
	out := make([]Value, n)
	for i := range out {
		size := each
		if i < longer {
			size++
		}
		row := slices.Clone(items[:size])
		items = items[size:]
		if fill := or(p[1], nil); fill != nil && i >= longer {
			row = append(row, fill)
		}
		out[i] = &List{Items: row}
	}
	return &iterator{out}, nil
}

// withDefault makes a getter give otherwise, unless nil, for what is undefined.
func withDefault(get getter, otherwise Value) getter {
	if otherwise == nil {
		return get
	}
	return func(rt *run, v Value) (Value, error) {
		v, err := get(rt, v)
		if _, u := v.(*Undefined); u {
			return otherwise, err
		}
		return v, err
	}
}

func filterDefault(_ *run, a *arguments) (Value, error) {
	v, p, err := a.filterArgs("default", "default_value", "boolean")
	if err != nil {
		return nil, err
	}
	_, undefined := v.(*Undefined)
	if undefined || truth(or(p[1], false)) && !truth(v) {
		return or(p[0], ""), nil
	}
	return v, nil
}

func filterAttr(rt *run, a *arguments) (Value, error) {
	v, p, err := a.filterArgs("attr", "name")
	if err != nil {
		return nil, err
	}
	name, ok := or(p[0], nil).(string)
	if !ok {
		return nil, typeErrorf("attr() needs a name")
	}
	if u, ok := v.(*Undefined); ok {
		return nil, u.fail()
	}
	if m, ok := member(v, name); ok {
		return m, nil
	}
	return missing(v, name), nil
}
