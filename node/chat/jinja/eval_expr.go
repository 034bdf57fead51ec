package jinja

import "math/big"

func (x *literal) eval(*run, *scope) (Value, error) { return x.value, nil }

func (x *nameExpr) eval(_ *run, sc *scope) (Value, error) {
	if v, ok := sc.lookup(x.name); ok {
		return v, nil
	}
	return &Undefined{message: "'" + x.name + "' is undefined"}, nil
}

func evalAll(rt *run, sc *scope, items []expr) ([]Value, error) {
	out := make([]Value, len(items))
	for i, e := range items {
		v, err := rt.eval(e, sc)
		if err != nil {
			return nil, err
		}
		out[i] = v
	}
	return out, nil
}

func (x *listExpr) eval(rt *run, sc *scope) (Value, error) {
	items, err := evalAll(rt, sc, x.items)
	return &List{Items: items}, err
}

func (x *tupleExpr) eval(rt *run, sc *scope) (Value, error) {
	items, err := evalAll(rt, sc, x.items)
	return &Tuple{Items: items}, err
}

func (x *dictExpr) eval(rt *run, sc *scope) (Value, error) {
	d := NewDict()
	for i := range x.keys {
		k, err := rt.eval(x.keys[i], sc)
		if err != nil {
			return nil, err
		}
		v, err := rt.eval(x.vals[i], sc)
		if err != nil {
			return nil, err
		}
		if err := rt.scan(k); err != nil {
			return nil, err
		}
		if err := d.set(k, v); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (x *attrExpr) eval(rt *run, sc *scope) (Value, error) {
	v, err := rt.eval(x.object, sc)
	if err != nil {
		return nil, err
	}
	v, err = rt.attribute(v, x.name)
	return v, at(x.line, err)
}

func (x *itemExpr) eval(rt *run, sc *scope) (Value, error) {
	v, err := rt.eval(x.object, sc)
	if err != nil {
		return nil, err
	}
	key, err := rt.eval(x.key, sc)
	if err != nil {
		return nil, err
	}
	v, err = rt.item(v, key)
	return v, at(x.line, err)
}

func (x *sliceExpr) eval(rt *run, sc *scope) (Value, error) {
	v, err := rt.eval(x.object, sc)
	if err != nil {
		return nil, err
	}
	var bounds [3]Value
	for i, e := range []expr{x.start, x.stop, x.step} {
		if e == nil {
			continue
		}
		if bounds[i], err = rt.eval(e, sc); err != nil {
			return nil, err
		}
	}
	v, err = rt.slice(v, bounds)
	return v, at(x.line, err)
}

func (x *logicExpr) eval(rt *run, sc *scope) (Value, error) {
	v, err := rt.eval(x.x, sc)
	if err != nil || truth(v) != x.and {
		return v, err
	}
	return rt.eval(x.y, sc)
}

func (x *notExpr) eval(rt *run, sc *scope) (Value, error) {
	v, err := rt.eval(x.x, sc)
	return !truth(v), err
}

func (x *condExpr) eval(rt *run, sc *scope) (Value, error) {
	v, err := rt.eval(x.cond, sc)
	if err != nil {
		return nil, err
	}
	if truth(v) {
		return rt.eval(x.then, sc)
	}
	if x.otherwise == nil {
		return &Undefined{message: "the inline if-expression evaluated to false and no else section was defined"}, nil
	}
	return rt.eval(x.otherwise, sc)
}

func (x *compareExpr) eval(rt *run, sc *scope) (Value, error) {
	left, err := rt.eval(x.x, sc)
	if err != nil {
		return nil, err
	}
	for i, op := range x.ops {
		right, err := rt.eval(x.ys[i], sc)
		if err != nil {
			return nil, err
		}
		ok, err := rt.compareOp(op, left, right)
		if err != nil || !ok {
			return false, at(x.line, err)
		}
		left = right
	}
	return true, nil
}

func (rt *run) compareOp(op string, a, b Value) (bool, error) {
	switch op {
	case "==":
		return rt.equal(a, b, 0)
	case "!=":
		same, err := rt.equal(a, b, 0)
		return !same, err
	case "in":
		return rt.contains(b, a)
	case "not in":
		in, err := rt.contains(b, a)
		return !in, err
	}
	c, unordered, err := rt.compare(a, b, op, 0)
	if err != nil || unordered {
		return false, err
	}
	switch op {
	case "<":
		return c < 0, nil
	case "<=":
		return c <= 0, nil
	case ">":
		return c > 0, nil
	}
	return c >= 0, nil
}

func (x *unaryExpr) eval(rt *run, sc *scope) (Value, error) {
	v, err := rt.eval(x.x, sc)
	if err != nil {
		return nil, err
	}
	switch n := v.(type) {
	case *Undefined:
		return nil, at(x.line, n.fail())
	case *big.Int:
		if x.op == "-" {
			return normalInt(new(big.Int).Neg(n)), nil
		}
		return n, nil
	}
	i, f, isFloat, ok := number(v)
	switch {
	case !ok:
		return nil, at(x.line, typeErrorf("bad operand type for unary %s: '%s'", x.op, typeName(v)))
	case isFloat && x.op == "-":
		return -f, nil
	case isFloat:
		return f, nil
	case x.op == "-":
		return normalInt(new(big.Int).Neg(big.NewInt(i))), nil
	}
	return i, nil
}

func (x *binaryExpr) eval(rt *run, sc *scope) (Value, error) {
	a, err := rt.eval(x.x, sc)
	if err != nil {
		return nil, err
	}
	b, err := rt.eval(x.y, sc)
	if err != nil {
		return nil, err
	}
	v, err := rt.binaryOp(x.op, a, b)
	return v, at(x.line, err)
}

func (x *callExpr) prepare(rt *run, sc *scope) (Value, *arguments, error) {
	callee, err := rt.eval(x.callee, sc)
	if err != nil {
		return nil, nil, err
	}
	args, err := x.args.evaluate(rt, sc)
	return callee, args, at(x.line, err)
}

func (x *callExpr) eval(rt *run, sc *scope) (Value, error) {
	callee, args, err := x.prepare(rt, sc)
	if err != nil {
		return nil, err
	}
	v, err := rt.call(callee, args)
	return v, at(x.line, err)
}

func (rt *run) call(callee Value, args *arguments) (Value, error) {
	switch f := callee.(type) {
	case *function:
		return f.call(rt, args)
	case *macro:
		return f.call(rt, args)
	case *loopState:
		return f.call(rt, args)
	case *Undefined:
		return nil, f.fail()
	}
	return nil, typeErrorf("'%s' object is not callable", typeName(callee))
}

func (x *filterExpr) eval(rt *run, sc *scope) (Value, error) {
	var v Value
	var err error
	if x.x == nil {
		v, _ = sc.lookup(blockText)
	} else if v, err = rt.eval(x.x, sc); err != nil {
		return nil, err
	}
	args, err := x.args.evaluate(rt, sc, v)
	if err != nil {
		return nil, at(x.line, err)
	}
	v, err = rt.filter(x.name, args)
	return v, at(x.line, err)
}

func (rt *run) filter(name string, args *arguments) (Value, error) {
	f, ok := filters[name]
	if !ok {
		return nil, syntaxErrorf(0, "no filter named '%s'", name)
	}
	return f(rt, args)
}

func (x *testExpr) eval(rt *run, sc *scope) (Value, error) {
	v, err := rt.eval(x.x, sc)
	if err != nil {
		return nil, err
	}
	args, err := x.args.evaluate(rt, sc, v)
	if err != nil {
		return nil, at(x.line, err)
	}
	ok, err := rt.test(x.name, args)
	return ok != x.negate, at(x.line, err)
}

func (rt *run) test(name string, args *arguments) (bool, error) {
	t, ok := tests[name]
	if !ok {
		return false, syntaxErrorf(0, "no test named '%s'", name)
	}
	return t(rt, args)
}
