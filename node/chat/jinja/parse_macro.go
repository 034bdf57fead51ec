package jinja

// noteName records that the macro being parsed names one of the implicit variables.
func (p *parser) noteName(name string) {
	if len(p.macros) == 0 {
		return
	}
	sig := p.macros[len(p.macros)-1]
	switch name {
	case "caller":
		sig.usesCaller = true
	case "kwargs":
		sig.usesKwargs = true
	case "varargs":
		sig.usesVarargs = true
	}
}

func (p *parser) macroTag(tag token) (stmt, error) {
	name, err := p.expectName()
	if err != nil {
		return nil, err
	}
	sig := &signature{name: name.text, line: tag.line}
	if err := p.params(sig); err != nil {
		return nil, err
	}
	if err := p.macroInside(sig, tag, "endmacro"); err != nil {
		return nil, err
	}
	return &macroStmt{sig, tag.line}, nil
}

// macroInside parses the body of a macro or call block whose parameters are known.
func (p *parser) macroInside(sig *signature, tag token, end string) error {
	outer := p.loops
	p.loops = 0
	p.macros = append(p.macros, sig)
	body, err := p.closedBody(tag, end)
	p.macros = p.macros[:len(p.macros)-1]
	p.loops = outer
	sig.body = body
	return err
}

func (p *parser) params(sig *signature) error {
	if err := p.expectOp("("); err != nil {
		return err
	}
	for !p.isOp(")") {
		if len(sig.params) > 0 {
			if err := p.expectOp(","); err != nil {
				return err
			}
			if p.isOp(")") {
				break
			}
		}
		name, err := p.expectName()
		if err != nil {
			return err
		}
		sig.params = append(sig.params, name.text)
		switch {
		case p.skipOp("="):
			x, err := p.expression()
			if err != nil {
				return err
			}
			sig.defaults = append(sig.defaults, x)
		case len(sig.defaults) > 0:
			return syntaxErrorf(name.line, "parameter '%s' without a default follows one that has a default", name.text)
		}
	}
	return p.expectOp(")")
}

func (p *parser) callTag(tag token) (stmt, error) {
	sig := &signature{name: "caller", line: tag.line}
	if p.isOp("(") {
		if err := p.params(sig); err != nil {
			return nil, err
		}
	}
	x, err := p.expression()
	if err != nil {
		return nil, err
	}
	call, ok := x.(*callExpr)
	if !ok {
		return nil, syntaxErrorf(tag.line, "a call block needs a call, as in {%% call name() %%}")
	}
	if err := p.macroInside(sig, tag, "endcall"); err != nil {
		return nil, err
	}
	return &callBlockStmt{sig, call, tag.line}, nil
}
