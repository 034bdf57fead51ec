package jinja

import (
	"math/big"
	"slices"
	"strconv"
)

// expression parses a full expression, including "x if c else y".
func (p *parser) expression() (expr, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	x, err := p.or()
	if err != nil {
		return nil, err
	}
	for n := 0; p.skipName("if"); n++ {
		if n > maxNesting {
			return nil, syntaxErrorf(p.peek().line, "too many chained conditional expressions")
		}
		cond, err := p.or()
		if err != nil {
			return nil, err
		}
		node := &condExpr{cond: cond, then: x}
		if p.skipName("else") {
			if node.otherwise, err = p.expression(); err != nil {
				return nil, err
			}
		}
		x = node
	}
	return x, nil
}

// tuple parses expressions separated by commas; one without a comma stays itself.
// Without conditionals it stops before "if", as for loops and if tags need.
func (p *parser) tuple(conditionals bool) (expr, error) {
	one := p.or
	if conditionals {
		one = p.expression
	}
	var items []expr
	for comma := false; ; comma = true {
		if len(items) > 0 && !p.skipOp(",") {
			if len(items) == 1 {
				return items[0], nil
			}
			return &tupleExpr{items}, nil
		}
		if comma && p.tupleEnds() {
			return &tupleExpr{items}, nil
		}
		x, err := one()
		if err != nil {
			return nil, err
		}
		items = append(items, x)
	}
}

func (p *parser) tupleEnds() bool {
	switch p.peek().kind {
	case tokVarEnd, tokBlockEnd, tokEOF:
		return true
	}
	return p.isOp(")") || p.isName("recursive")
}

func (p *parser) or() (expr, error) { return p.logic("or", p.and) }

func (p *parser) and() (expr, error) { return p.logic("and", p.not) }

func (p *parser) logic(op string, operand func() (expr, error)) (expr, error) {
	x, err := operand()
	for err == nil && p.skipName(op) {
		var y expr
		if y, err = operand(); err == nil {
			x = &logicExpr{op == "and", x, y}
		}
	}
	return x, err
}

func (p *parser) not() (expr, error) {
	if !p.skipName("not") {
		return p.compare()
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	x, err := p.not()
	return &notExpr{x}, err
}

var comparisons = []string{"==", "!=", "<", "<=", ">", ">="}

func (p *parser) compare() (expr, error) {
	line := p.peek().line
	x, err := p.sum()
	if err != nil {
		return nil, err
	}
	node := &compareExpr{x: x, line: line}
	for {
		t := p.peek()
		op := ""
		switch {
		case t.kind == tokOp && slices.Contains(comparisons, t.text):
			op = t.text
			p.next()
		case p.skipName("in"):
			op = "in"
		case p.isName("not") && p.toks[p.pos+1].kind == tokName && p.toks[p.pos+1].text == "in":
			p.pos += 2
			op = "not in"
		default:
			if len(node.ops) == 0 {
				return x, nil
			}
			return node, nil
		}
		y, err := p.sum()
		if err != nil {
			return nil, err
		}
		node.ops, node.ys = append(node.ops, op), append(node.ys, y)
	}
}

// binary parses a left-associative level of operators.
func (p *parser) binary(operand func() (expr, error), ops ...string) (expr, error) {
	x, err := operand()
	for err == nil {
		t := p.peek()
		if t.kind != tokOp || !slices.Contains(ops, t.text) {
			break
		}
		p.next()
		var y expr
		if y, err = operand(); err == nil {
			x = &binaryExpr{t.text, x, y, t.line}
		}
	}
	return x, err
}

func (p *parser) sum() (expr, error)     { return p.binary(p.concat, "+", "-") }
func (p *parser) concat() (expr, error)  { return p.binary(p.product, "~") }
func (p *parser) product() (expr, error) { return p.binary(p.power, "*", "/", "//", "%") }
func (p *parser) power() (expr, error)   { return p.binary(p.filtered, "**") }

// filtered is a signed primary with its postfixes, filters and tests.
func (p *parser) filtered() (expr, error) {
	x, err := p.unary()
	if err != nil {
		return nil, err
	}
	return p.postfix(x, true)
}

func (p *parser) unary() (expr, error) {
	t := p.peek()
	if !p.skipOp("-") && !p.skipOp("+") {
		x, err := p.primary()
		if err != nil {
			return nil, err
		}
		return p.postfix(x, false)
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	x, err := p.unary()
	if err != nil {
		return nil, err
	}
	return p.postfix(&unaryExpr{t.text, x, t.line}, false)
}

func (p *parser) primary() (expr, error) {
	t := p.peek()
	switch t.kind {
	case tokName:
		return p.nameOrConstant(p.next())
	case tokString:
		text := ""
		for p.peek().kind == tokString {
			text += p.next().text
		}
		return &literal{text}, nil
	case tokInt:
		p.next()
		if i, err := strconv.ParseInt(t.text, 0, 64); err == nil {
			return &literal{i}, nil
		}
		if len(t.text) > maxIntDigits {
			return nil, syntaxErrorf(t.line, "integer literal has more than %d digits", maxIntDigits)
		}
		i, ok := new(big.Int).SetString(t.text, 0)
		if !ok {
			return nil, syntaxErrorf(t.line, "bad integer literal '%s'", t.text)
		}
		return &literal{i}, nil
	case tokFloat:
		p.next()
		f, err := strconv.ParseFloat(t.text, 64)
		if err != nil && f == 0 {
			return nil, syntaxErrorf(t.line, "bad number literal '%s'", t.text)
		}
		return &literal{f}, nil
	}
	switch {
	case p.isOp("("):
		return p.parenthesis()
	case p.isOp("["):
		p.next()
		items, err := p.exprList("]")
		return &listExpr{items}, err
	case p.isOp("{"):
		return p.dict()
	}
	return nil, p.unexpected("an expression")
}

func (p *parser) nameOrConstant(t token) (expr, error) {
	switch t.text {
	case "true", "True":
		return &literal{true}, nil
	case "false", "False":
		return &literal{false}, nil
	case "none", "None":
		return &literal{nil}, nil
	}
	if slices.Contains(reserved, t.text) {
		return nil, syntaxErrorf(t.line, "unexpected '%s'", t.text)
	}
	p.noteName(t.text)
	return &nameExpr{t.text}, nil
}

func (p *parser) parenthesis() (expr, error) {
	p.next()
	if p.skipOp(")") {
		return &tupleExpr{}, nil
	}
	x, err := p.tuple(true)
	if err != nil {
		return nil, err
	}
	return x, p.expectOp(")")
}

// exprList parses expressions up to and including the closing bracket.
func (p *parser) exprList(end string) ([]expr, error) {
	var items []expr
	for !p.isOp(end) {
		if len(items) > 0 {
			if err := p.expectOp(","); err != nil {
				return nil, err
			}
			if p.isOp(end) {
				break
			}
		}
		x, err := p.expression()
		if err != nil {
			return nil, err
		}
		items = append(items, x)
	}
	return items, p.expectOp(end)
}

func (p *parser) dict() (expr, error) {
	p.next()
	node := &dictExpr{}
	for !p.isOp("}") {
		if len(node.keys) > 0 {
			if err := p.expectOp(","); err != nil {
				return nil, err
			}
			if p.isOp("}") {
				break
			}
		}
		k, err := p.expression()
		if err == nil {
			err = p.expectOp(":")
		}
		if err != nil {
			return nil, err
		}
		v, err := p.expression()
		if err != nil {
			return nil, err
		}
		node.keys, node.vals = append(node.keys, k), append(node.vals, v)
	}
	return node, p.expectOp("}")
}
