package jinja

import (
	"slices"
	"strings"
)

func filterDictSort(rt *run, a *arguments) (Value, error) {
	v, p, err := a.filterArgs("dictsort", "case_sensitive", "by", "reverse")
	if err != nil {
		return nil, err
	}
	d, ok := v.(*Dict)
	if !ok {
		return nil, typeErrorf("dictsort needs a dict, not '%s'", typeName(v))
	}
	part := int64(0)
	switch or(p[1], "key") {
	case "key":
	case "value":
		part = 1
	default:
		return nil, valueErrorf("dictsort: by must be 'key' or 'value'")
	}
	return rt.sorted(d.pairs(), []getter{foldCase(attrGetter(part), truth(or(p[0], false)))}, truth(or(p[2], false)))
}

type getter = func(*run, Value) (Value, error)

// sorted returns a new list ordered by the getters' values, the first one first.
func (rt *run) sorted(items []Value, gets []getter, reverse bool) (Value, error) {
	type row struct {
		keys []Value
		item Value
	}
	rows := make([]row, len(items))
	for i, item := range items {
		rows[i].item = item
		for _, get := range gets {
			k, err := get(rt, item)
			if err != nil {
				return nil, err
			}
			rows[i].keys = append(rows[i].keys, k)
		}
	}
	var failed error
	slices.SortStableFunc(rows, func(x, y row) int {
		if failed != nil {
			return 0
		}
		c, _, err := rt.compareItems(x.keys, y.keys, "<", 0)
		failed = err
		if reverse {
			c = -c
		}
		return c
	})
	out := make([]Value, len(rows))
	for i := range rows {
		out[i] = rows[i].item
	}
	return &List{Items: out}, failed
}

func filterSort(rt *run, a *arguments) (Value, error) {
	items, p, err := valueItems(rt, a, "sort", "reverse", "case_sensitive", "attribute")
	if err != nil {
		return nil, err
	}
	sensitive := truth(or(p[1], false))
	var gets []getter
	if s, ok := or(p[2], nil).(string); ok {
		for _, path := range strings.Split(s, ",") {
			gets = append(gets, foldCase(attrGetter(path), sensitive))
		}
	} else {
		gets = []getter{foldCase(attrGetter(or(p[2], nil)), sensitive)}
	}
	return rt.sorted(items, gets, truth(or(p[0], false)))
}

func filterUnique(rt *run, a *arguments) (Value, error) {
	items, p, err := valueItems(rt, a, "unique", "case_sensitive", "attribute")
	if err != nil {
		return nil, err
	}
	get := foldCase(attrGetter(or(p[1], nil)), truth(or(p[0], false)))
	seen := map[any]bool{}
	var out []Value
	for _, item := range items {
		v, err := get(rt, item)
		if err != nil {
			return nil, err
		}
		if err := rt.scan(v); err != nil {
			return nil, err
		}
		k, err := hashable(v)
		if err != nil {
			return nil, err
		}
		if !seen[k] {
			seen[k] = true
			out = append(out, item)
		}
	}
	return &iterator{out}, nil
}

func filterGroupBy(rt *run, a *arguments) (Value, error) {
	items, p, err := valueItems(rt, a, "groupby", "attribute", "default", "case_sensitive")
	if err != nil {
		return nil, err
	}
	get := withDefault(attrGetter(or(p[0], nil)), or(p[1], nil))
	folded := foldCase(get, truth(or(p[2], false)))
	ordered, err := rt.sorted(items, []getter{folded}, false)
	if err != nil {
		return nil, err
	}
	out := &List{}
	var last Value
	for i, item := range ordered.(*List).Items {
		key, err := folded(rt, item)
		if err != nil {
			return nil, err
		}
		same := false
		if i > 0 {
			if same, err = rt.equal(key, last, 0); err != nil {
				return nil, err
			}
		}
		if same {
			group := out.Items[len(out.Items)-1].(*Tuple).Items[1].(*List)
			group.Items = append(group.Items, item)
			continue
		}
		last = key
		shown, err := get(rt, item)
		if err != nil {
			return nil, err
		}
		out.Items = append(out.Items, &Tuple{
			Items: []Value{shown, &List{Items: []Value{item}}},
			Names: []string{"grouper", "list"},
		})
	}
	return out, nil
}
