package jinja

import (
	"math/big"
	"slices"
)

type (
	listMethod = func(*run, *List, *arguments) (Value, error)
	dictMethod = func(*run, *Dict, *arguments) (Value, error)
)

var listMethods = map[string]listMethod{
	"append": func(rt *run, l *List, a *arguments) (Value, error) {
		p, err := a.bind("append", 1, "item")
		if err != nil {
			return nil, err
		}
		return nil, rt.insert(l, len(l.Items), p[0])
	},
	"extend": func(rt *run, l *List, a *arguments) (Value, error) {
		p, err := a.bind("extend", 1, "items")
		if err != nil {
			return nil, err
		}
		items, err := rt.items(p[0])
		if err != nil {
			return nil, err
		}
		l.Items = slices.Concat(l.Items, items)
		return nil, rt.made(len(l.Items))
	},
	"insert": func(rt *run, l *List, a *arguments) (Value, error) {
		p, err := a.bind("insert", 2, "index", "item")
		if err != nil {
			return nil, err
		}
		i, err := integer(p[0], "insert() index")
		if err != nil {
			return nil, err
		}
		n := int64(len(l.Items))
		if i < 0 {
			i = max(i+n, 0)
		}
		return nil, rt.insert(l, int(min(i, n)), p[1])
	},
	"pop":    listPop,
	"remove": listRemove,
	"index":  listIndex,
	"count":  listCount,
	"reverse": func(_ *run, l *List, _ *arguments) (Value, error) {
		l.Items = slices.Clone(l.Items)
		slices.Reverse(l.Items)
		return nil, nil
	},
	"copy": func(rt *run, l *List, _ *arguments) (Value, error) {
		return &List{Items: slices.Clone(l.Items)}, rt.made(len(l.Items))
	},
	"clear": func(_ *run, l *List, _ *arguments) (Value, error) {
		l.Items = nil
		return nil, nil
	},
}

// insert changes a list in a way that a loop over its old items never notices.
func (rt *run) insert(l *List, i int, v Value) error {
	if len(l.Items) >= maxItems {
		return limitErrorf("a list grows past %d items", maxItems)
	}
	if i == len(l.Items) {
		l.Items = append(l.Items, v)
		return rt.charge(1)
	}
	l.Items = slices.Insert(slices.Clone(l.Items), i, v)
	return rt.charge(len(l.Items))
}

func listPop(rt *run, l *List, a *arguments) (Value, error) {
	p, err := a.bind("pop", 0, "index")
	if err != nil {
		return nil, err
	}
	i, err := integer(or(p[0], int64(-1)), "pop() index")
	if err != nil {
		return nil, err
	}
	n := int64(len(l.Items))
	if i < 0 {
		i += n
	}
	if i < 0 || i >= n {
		return nil, valueErrorf("pop index out of range")
	}
	v := l.Items[i]
	l.Items = slices.Delete(slices.Clone(l.Items), int(i), int(i)+1)
	return v, rt.charge(int(n))
}

// find is the position of the first item equal to the call's argument.
func (rt *run) find(fn string, l *List, a *arguments) (int, error) {
	p, err := a.bind(fn, 1, "item")
	if err != nil {
		return 0, err
	}
	for i, item := range l.Items {
		same, err := rt.equal(item, p[0], 0)
		if err != nil {
			return 0, err
		}
		if same {
			return i, nil
		}
	}
	return 0, valueErrorf("%s(): the item is not in the list", fn)
}

func listRemove(rt *run, l *List, a *arguments) (Value, error) {
	i, err := rt.find("remove", l, a)
	if err != nil {
		return nil, err
	}
	l.Items = slices.Delete(slices.Clone(l.Items), i, i+1)
	return nil, rt.charge(len(l.Items))
}

func listIndex(rt *run, l *List, a *arguments) (Value, error) {
	i, err := rt.find("index", l, a)
	return int64(i), err
}

func listCount(rt *run, l *List, a *arguments) (Value, error) {
	p, err := a.bind("count", 1, "item")
	if err != nil {
		return nil, err
	}
	n := int64(0)
	for _, item := range l.Items {
		same, err := rt.equal(item, p[0], 0)
		if err != nil {
			return nil, err
		}
		if same {
			n++
		}
	}
	return n, nil
}

var dictMethods = map[string]dictMethod{
	"items": func(rt *run, d *Dict, _ *arguments) (Value, error) {
		return &view{"dict_items", d.pairs()}, rt.made(d.Len())
	},
	"keys": func(rt *run, d *Dict, _ *arguments) (Value, error) {
		return &view{"dict_keys", slices.Clone(d.keys)}, rt.made(d.Len())
	},
	"values": func(rt *run, d *Dict, _ *arguments) (Value, error) {
		return &view{"dict_values", slices.Clone(d.vals)}, rt.made(d.Len())
	},
	"get": func(rt *run, d *Dict, a *arguments) (Value, error) {
		p, err := a.bind("get", 1, "key", "default")
		if err != nil {
			return nil, err
		}
		if err := rt.scan(p[0]); err != nil {
			return nil, err
		}
		if v, ok := d.Get(p[0]); ok {
			return v, nil
		}
		return or(p[1], nil), nil
	},
	"pop": func(rt *run, d *Dict, a *arguments) (Value, error) {
		p, err := a.bind("pop", 1, "key", "default")
		if err != nil {
			return nil, err
		}
		if v, ok := d.remove(p[0]); ok {
			return v, rt.charge(4 * d.Len())
		}
		if !given(p[1]) {
			return nil, valueErrorf("pop(): no key %s", shortRepr(p[0]))
		}
		return p[1], nil
	},
	"popitem": func(rt *run, d *Dict, _ *arguments) (Value, error) {
		if d.Len() == 0 {
			return nil, valueErrorf("popitem(): the dict is empty")
		}
		k := d.keys[d.Len()-1]
		v, _ := d.remove(k)
		return &Tuple{Items: []Value{k, v}}, rt.charge(4 * d.Len())
	},
	"setdefault": func(rt *run, d *Dict, a *arguments) (Value, error) {
		p, err := a.bind("setdefault", 1, "key", "default")
		if err != nil {
			return nil, err
		}
		if v, ok := d.Get(p[0]); ok {
			return v, nil
		}
		v := or(p[1], nil)
		if err := d.set(p[0], v); err != nil {
			return nil, err
		}
		return v, rt.charge(1)
	},
	"update": func(rt *run, d *Dict, a *arguments) (Value, error) {
		more, err := rt.newDict("update", a)
		if err != nil {
			return nil, err
		}
		if err := rt.made(more.Len()); err != nil {
			return nil, err
		}
		return nil, rt.mergeInto(d, more)
	},
	"copy": func(rt *run, d *Dict, _ *arguments) (Value, error) { return d.copy(), rt.made(d.Len()) },
	"clear": func(_ *run, d *Dict, _ *arguments) (Value, error) {
		*d = *NewDict()
		return nil, nil
	},
}

// isIntText says whether a value is an integer that % and format print with d.
func isIntText(v Value) (*big.Int, bool) {
	if f, ok := v.(float64); ok {
		if i, isInt := truncate(f, nil).(int64); isInt {
			return big.NewInt(i), true
		}
		return nil, false
	}
	return bigInt(v)
}
