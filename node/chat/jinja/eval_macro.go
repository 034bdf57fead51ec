package jinja

// macro is a macro's value: its signature and the scope it was defined in.
type macro struct {
	sig   *signature
	outer *scope
}

func (s *macroStmt) exec(_ *run, sc *scope) error {
	sc.set(s.sig.name, &macro{s.sig, sc})
	return nil
}

func (s *callBlockStmt) exec(rt *run, sc *scope) error {
	callee, args, err := s.call.prepare(rt, sc)
	if err != nil {
		return at(s.line, err)
	}
	if _, ok := args.named("caller"); ok {
		return at(s.line, typeErrorf("a call block cannot pass an argument named 'caller'"))
	}
	args.names = append(args.names, "caller")
	args.values = append(args.values, &macro{s.sig, sc})
	v, err := rt.call(callee, args)
	if err != nil {
		return at(s.line, err)
	}
	text, err := rt.str(v)
	if err == nil {
		err = rt.write(text)
	}
	return at(s.line, err)
}

// call binds the arguments in a fresh scope and renders the body.
func (m *macro) call(rt *run, a *arguments) (Value, error) {
	if err := rt.enter(); err != nil {
		return nil, err
	}
	defer rt.leave()
	inner := &scope{parent: m.outer}
	rest, err := m.bindNamed(inner, a)
	if err != nil {
		return nil, err
	}
	if err := m.bindPositional(rt, inner, a); err != nil {
		return nil, err
	}
	if m.sig.usesKwargs {
		inner.set("kwargs", rest)
	}
	return rt.captureValue(func() error { return rt.exec(m.sig.body, inner) })
}

// bindNamed sets the parameters passed by name and collects the others.
func (m *macro) bindNamed(inner *scope, a *arguments) (rest *Dict, err error) {
	rest = NewDict()
	for i, name := range a.names {
		switch at := m.param(name); {
		case at >= 0 && at < len(a.positional):
			return nil, typeErrorf("macro '%s' got two values for argument '%s'", m.sig.name, name)
		case at >= 0:
			inner.set(name, a.values[i])
		case name == "caller" && m.sig.usesCaller:
			inner.set(name, a.values[i])
		case m.sig.usesKwargs:
			rest.SetString(name, a.values[i])
		default:
			return nil, typeErrorf("macro '%s' takes no keyword argument '%s'", m.sig.name, name)
		}
	}
	if _, ok := inner.vars["caller"]; !ok && m.sig.usesCaller {
		inner.set("caller", &Undefined{message: "No caller defined"})
	}
	return rest, nil
}

func (m *macro) param(name string) int {
	for i, p := range m.sig.params {
		if p == name {
			return i
		}
	}
	return -1
}

// bindPositional sets the other parameters, defaults included.
func (m *macro) bindPositional(rt *run, inner *scope, a *arguments) error {
	params := m.sig.params
	switch {
	case m.sig.usesVarargs:
		rest := &Tuple{}
		if len(a.positional) > len(params) {
			rest.Items = a.positional[len(params):]
		}
		inner.set("varargs", rest)
	case len(a.positional) > len(params):
		return typeErrorf("macro '%s' takes not more than %d argument(s), got %d", m.sig.name, len(params), len(a.positional))
	}
	firstDefault := len(params) - len(m.sig.defaults)
	for i, name := range params {
		if i < len(a.positional) {
			inner.set(name, a.positional[i])
			continue
		}
		if _, ok := inner.vars[name]; ok {
			continue
		}
		if i < firstDefault {
			inner.set(name, &Undefined{message: "parameter '" + name + "' was not provided"})
			continue
		}
		v, err := rt.eval(m.sig.defaults[i-firstDefault], inner)
		if err != nil {
			return err
		}
		inner.set(name, v)
	}
	return nil
}

func (m *macro) attribute(name string) (Value, bool) {
	switch name {
	case "name":
		return m.sig.name, true
	case "arguments":
		t := &Tuple{}
		for _, p := range m.sig.params {
			t.Items = append(t.Items, p)
		}
		return t, true
	case "caller":
		return m.sig.usesCaller, true
	case "catch_kwargs":
		return m.sig.usesKwargs, true
	case "catch_varargs":
		return m.sig.usesVarargs, true
	}
	return nil, false
}
