package jinja

import (
	"slices"
	"strconv"
)

// postfix parses attribute and item access and calls; with filters also | and is.
func (p *parser) postfix(x expr, filters bool) (expr, error) {
	var err error
	for err == nil {
		switch {
		case p.isOp("."):
			x, err = p.attribute(x)
		case p.isOp("["):
			x, err = p.subscript(x)
		case p.isOp("("):
			x, err = p.call(x)
		case filters && p.isOp("|"):
			x, err = p.filters(x)
		case filters && p.isName("is"):
			x, err = p.test(x)
		default:
			return x, nil
		}
	}
	return nil, err
}

func (p *parser) attribute(x expr) (expr, error) {
	line := p.next().line
	t := p.next()
	switch t.kind {
	case tokName:
		return &attrExpr{x, t.text, line}, nil
	case tokInt:
		i, err := strconv.ParseInt(t.text, 10, 64)
		if err != nil {
			return nil, syntaxErrorf(t.line, "bad item number '%s'", t.text)
		}
		return &itemExpr{x, &literal{i}, line}, nil
	}
	p.pos--
	return nil, p.unexpected("a name or a number after '.'")
}

func (p *parser) subscript(x expr) (expr, error) {
	line := p.next().line
	if p.isOp("]") {
		return nil, p.unexpected("an expression")
	}
	parts, isSlice, err := p.sliceParts()
	if err != nil {
		return nil, err
	}
	if isSlice {
		return &sliceExpr{x, parts[0], parts[1], parts[2], line}, p.expectOp("]")
	}
	key := parts[0]
	if p.isOp(",") {
		items := []expr{key}
		for p.skipOp(",") {
			y, err := p.expression()
			if err != nil {
				return nil, err
			}
			items = append(items, y)
		}
		key = &tupleExpr{items}
	}
	return &itemExpr{x, key, line}, p.expectOp("]")
}

// sliceParts parses "a", or "a:b:c" with any part left out.
func (p *parser) sliceParts() (parts [3]expr, isSlice bool, err error) {
	for i := 0; ; i++ {
		if !p.isOp(":") && !p.isOp("]") && !p.isOp(",") {
			if parts[i], err = p.expression(); err != nil {
				return parts, false, err
			}
		}
		if i == 2 || !p.skipOp(":") {
			return parts, isSlice, nil
		}
		isSlice = true
	}
}

func (p *parser) call(x expr) (expr, error) {
	line := p.peek().line
	args, err := p.arguments()
	return &callExpr{x, args, line}, err
}

func (p *parser) arguments() (argExprs, error) {
	var args argExprs
	if err := p.expectOp("("); err != nil {
		return args, err
	}
	for first := true; !p.isOp(")"); first = false {
		if !first {
			if err := p.expectOp(","); err != nil {
				return args, err
			}
			if p.isOp(")") {
				break
			}
		}
		if err := p.argument(&args); err != nil {
			return args, err
		}
	}
	return args, p.expectOp(")")
}

func (p *parser) argument(args *argExprs) error {
	line := p.peek().line
	switch {
	case p.skipOp("**"):
		if args.dict != nil {
			return syntaxErrorf(line, "a call takes at most one **argument")
		}
		x, err := p.expression()
		args.dict = x
		return err
	case p.skipOp("*"):
		if args.list != nil || args.dict != nil {
			return syntaxErrorf(line, "a call takes at most one *argument, before any **argument")
		}
		x, err := p.expression()
		args.list = x
		return err
	}
	if t, eq := p.peek(), p.toks[min(p.pos+1, len(p.toks)-1)]; t.kind == tokName && eq.kind == tokOp && eq.text == "=" {
		p.pos += 2
		x, err := p.expression()
		if err == nil && slices.Contains(args.names, t.text) {
			err = syntaxErrorf(line, "argument '%s' is given twice", t.text)
		}
		if args.dict != nil {
			return syntaxErrorf(line, "no argument may follow a **argument")
		}
		args.names, args.named = append(args.names, t.text), append(args.named, x)
		return err
	}
	if args.list != nil || args.dict != nil || len(args.names) > 0 {
		return syntaxErrorf(line, "positional arguments must come first")
	}
	x, err := p.expression()
	args.positional = append(args.positional, x)
	return err
}

// filters parses a chain of "| name(args)" after x; x is nil for a block's text.
func (p *parser) filters(x expr) (expr, error) {
	var err error
	for err == nil && p.skipOp("|") {
		x, err = p.filter(x)
	}
	return x, err
}

func (p *parser) filter(x expr) (expr, error) {
	name, err := p.dottedName()
	if err != nil {
		return nil, err
	}
	node := &filterExpr{name: name.text, x: x, line: name.line}
	if p.isOp("(") {
		node.args, err = p.arguments()
	}
	return node, err
}

func (p *parser) dottedName() (token, error) {
	name, err := p.expectName()
	for err == nil && p.isOp(".") {
		p.next()
		var part token
		part, err = p.expectName()
		name.text += "." + part.text
	}
	return name, err
}

func (p *parser) test(x expr) (expr, error) {
	p.next()
	node := &testExpr{x: x, negate: p.skipName("not")}
	name, err := p.dottedName()
	if err != nil {
		return nil, err
	}
	node.name, node.line = name.text, name.line
	if p.isOp("(") {
		node.args, err = p.arguments()
		return node, err
	}
	if p.isName("is") {
		return nil, syntaxErrorf(name.line, "tests cannot be chained with 'is'")
	}
	if p.startsTestArgument() {
		arg, err := p.primary()
		if err == nil {
			arg, err = p.postfix(arg, false)
		}
		node.args.positional = []expr{arg}
		return node, err
	}
	return node, nil
}

func (p *parser) startsTestArgument() bool {
	switch t := p.peek(); t.kind {
	case tokName:
		return !slices.Contains([]string{"else", "or", "and", "is", "if", "in", "not"}, t.text)
	case tokString, tokInt, tokFloat:
		return true
	}
	return p.isOp("(") || p.isOp("[") || p.isOp("{")
}
