package jinja

import "slices"

// maxNesting bounds how deep tags and expressions may nest in the source.
const maxNesting = 200

type parser struct {
	toks  []token
	pos   int
	depth int
	loops int // open for loops inside the current macro
	// macros holds the signatures being parsed, innermost last.
	macros []*signature
	// open names the tags that are still open, for messages.
	open []token
}

func (p *parser) peek() token { return p.toks[p.pos] }

func (p *parser) next() token {
	t := p.toks[p.pos]
	if t.kind != tokEOF {
		p.pos++
	}
	return t
}

func (p *parser) isOp(op string) bool   { t := p.peek(); return t.kind == tokOp && t.text == op }
func (p *parser) isName(n string) bool  { t := p.peek(); return t.kind == tokName && t.text == n }
func (p *parser) skipOp(op string) bool { return p.skipIf(p.isOp(op)) }
func (p *parser) skipName(n string) bool {
	return p.skipIf(p.isName(n))
}

func (p *parser) skipIf(match bool) bool {
	if match {
		p.pos++
	}
	return match
}

func (p *parser) expectOp(op string) error {
	if !p.skipOp(op) {
		return p.unexpected("'" + op + "'")
	}
	return nil
}

func (p *parser) expectName() (token, error) {
	if p.peek().kind != tokName {
		return token{}, p.unexpected("a name")
	}
	return p.next(), nil
}

func (p *parser) expect(kind tokenKind) error {
	if p.peek().kind != kind {
		return p.unexpected((token{kind: kind}).String())
	}
	p.next()
	return nil
}

func (p *parser) unexpected(want string) error {
	t := p.peek()
	if t.kind == tokEOF && len(p.open) > 0 {
		tag := p.open[len(p.open)-1]
		return syntaxErrorf(t.line, "the template ends while '%s' of line %d is open", tag.text, tag.line)
	}
	return syntaxErrorf(t.line, "expected %s, got %s", want, t)
}

// enter counts one level of nesting; the caller runs leave when it is done.
func (p *parser) enter() error {
	if p.depth++; p.depth > maxNesting {
		return &Error{Kind: LimitError, Line: p.peek().line, Message: "the template nests deeper than 200 levels"}
	}
	return nil
}

func (p *parser) leave() { p.depth-- }

// statements parses up to a block whose first name is in ends; that name is left as
// the current token. At the top level ends is empty and the end of the source stops it.
func (p *parser) statements(ends ...string) ([]stmt, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	var out []stmt
	for {
		switch t := p.peek(); t.kind {
		case tokEOF:
			if len(ends) > 0 {
				return nil, p.unexpected(ends[0])
			}
			return out, nil
		case tokData:
			p.next()
			out = append(out, &textStmt{t.text})
		case tokVarBegin:
			p.next()
			x, err := p.tuple(true)
			if err == nil {
				err = p.expect(tokVarEnd)
			}
			if err != nil {
				return nil, err
			}
			out = append(out, &printStmt{x, t.line})
		case tokBlockBegin:
			p.next()
			if name := p.peek(); name.kind == tokName && slices.Contains(ends, name.text) {
				return out, nil
			}
			s, err := p.statement()
			if err != nil {
				return nil, err
			}
			out = append(out, s)
		default:
			return nil, p.unexpected("template text")
		}
	}
}

// body parses the inside of a block tag, from the end of its opening tag to the
// end of one of the closing tags, whose name it returns.
func (p *parser) body(tag token, ends ...string) ([]stmt, string, error) {
	if err := p.expect(tokBlockEnd); err != nil {
		return nil, "", err
	}
	p.open = append(p.open, tag)
	out, err := p.statements(ends...)
	if err != nil {
		return nil, "", err
	}
	p.open = p.open[:len(p.open)-1]
	return out, p.next().text, nil
}

// closedBody is body for tags with one closing tag.
func (p *parser) closedBody(tag token, end string) ([]stmt, error) {
	out, _, err := p.body(tag, end)
	if err != nil {
		return nil, err
	}
	return out, p.expect(tokBlockEnd)
}

func (p *parser) statement() (stmt, error) {
	tag, err := p.expectName()
	if err != nil {
		return nil, err
	}
	switch tag.text {
	case "if":
		return p.ifTag(tag)
	case "for":
		return p.forTag(tag)
	case "set":
		return p.setTag(tag)
	case "macro":
		return p.macroTag(tag)
	case "call":
		return p.callTag(tag)
	case "filter":
		return p.filterTag(tag)
	case "with":
		return p.withTag(tag)
	case "generation":
		body, err := p.closedBody(tag, "endgeneration")
		return &withStmt{body: body, line: tag.line}, err
	case "print":
		x, err := p.tuple(true)
		if err != nil {
			return nil, err
		}
		return &printStmt{x, tag.line}, p.expect(tokBlockEnd)
	case "break", "continue":
		if p.loops == 0 {
			return nil, syntaxErrorf(tag.line, "'%s' outside of a for loop", tag.text)
		}
		if tag.text == "break" {
			return breakStmt{}, p.expect(tokBlockEnd)
		}
		return continueStmt{}, p.expect(tokBlockEnd)
	}
	return nil, syntaxErrorf(tag.line, "tag '%s' is unknown or out of place", tag.text)
}

func (p *parser) ifTag(tag token) (stmt, error) {
	cond, err := p.tuple(false)
	if err != nil {
		return nil, err
	}
	node := &ifStmt{cond: cond, line: tag.line}
	then, end, err := p.body(tag, "elif", "else", "endif")
	if err != nil {
		return nil, err
	}
	node.then = then
	switch end {
	case "elif":
		// A long chain of elif is deep in the tree though flat in the source.
		if err := p.enter(); err != nil {
			return nil, err
		}
		defer p.leave()
		rest, err := p.ifTag(token{tokName, "elif", p.peek().line})
		node.more = []stmt{rest}
		return node, err
	case "else":
		node.more, err = p.closedBody(tag, "endif")
		return node, err
	}
	return node, p.expect(tokBlockEnd)
}

func (p *parser) forTag(tag token) (stmt, error) {
	node := &forStmt{line: tag.line}
	var err error
	if node.target, err = p.targets("in"); err != nil {
		return nil, err
	}
	if !p.skipName("in") {
		return nil, p.unexpected("'in'")
	}
	if node.source, err = p.tuple(false); err != nil {
		return nil, err
	}
	if p.skipName("if") {
		if node.filter, err = p.expression(); err != nil {
			return nil, err
		}
	}
	node.recursive = p.skipName("recursive")
	p.loops++
	body, end, err := p.body(tag, "endfor", "else")
	p.loops--
	if err != nil {
		return nil, err
	}
	node.body = body
	if end == "else" {
		node.otherwise, err = p.closedBody(tag, "endfor")
		return node, err
	}
	return node, p.expect(tokBlockEnd)
}

func (p *parser) setTag(tag token) (stmt, error) {
	to, err := p.targets("")
	if err != nil {
		return nil, err
	}
	if p.skipOp("=") {
		x, err := p.tuple(true)
		if err != nil {
			return nil, err
		}
		return &setStmt{to, x, tag.line}, p.expect(tokBlockEnd)
	}
	node := &setBlockStmt{target: to, line: tag.line}
	if p.isOp("|") {
		if node.filter, err = p.filters(nil); err != nil {
			return nil, err
		}
	}
	node.body, err = p.closedBody(tag, "endset")
	return node, err
}

// targets parses one assignment target, or several as a tuple; stop is the name that
// ends them.
func (p *parser) targets(stop string) (target, error) {
	first, err := p.target()
	if err != nil || !p.isOp(",") {
		return first, err
	}
	all := []target{first}
	for p.skipOp(",") {
		if stop != "" && p.isName(stop) || p.isOp("=") || p.isOp(")") || p.peek().kind == tokBlockEnd {
			break
		}
		t, err := p.target()
		if err != nil {
			return target{}, err
		}
		all = append(all, t)
	}
	return target{tuple: all}, nil
}

var reserved = []string{"true", "false", "none", "True", "False", "None", "and", "or", "not", "in", "is", "if", "else", "elif"}

func (p *parser) target() (target, error) {
	if err := p.enter(); err != nil {
		return target{}, err
	}
	defer p.leave()
	if p.skipOp("(") {
		t, err := p.targets("")
		if err != nil {
			return target{}, err
		}
		return t, p.expectOp(")")
	}
	name, err := p.expectName()
	if err != nil {
		return target{}, err
	}
	if slices.Contains(reserved, name.text) {
		return target{}, syntaxErrorf(name.line, "cannot assign to '%s'", name.text)
	}
	t := target{name: name.text}
	if p.skipOp(".") {
		attr, err := p.expectName()
		if err != nil {
			return target{}, err
		}
		p.noteName(name.text)
		t.attr = attr.text
	}
	return t, nil
}

func (p *parser) filterTag(tag token) (stmt, error) {
	filter, err := p.filter(nil)
	if err == nil && p.isOp("|") {
		filter, err = p.filters(filter)
	}
	if err != nil {
		return nil, err
	}
	body, err := p.closedBody(tag, "endfilter")
	return &filterBlockStmt{body, filter, tag.line}, err
}

func (p *parser) withTag(tag token) (stmt, error) {
	node := &withStmt{line: tag.line}
	for p.peek().kind != tokBlockEnd {
		if len(node.targets) > 0 {
			if err := p.expectOp(","); err != nil {
				return nil, err
			}
		}
		to, err := p.target()
		if err == nil {
			err = p.expectOp("=")
		}
		if err != nil {
			return nil, err
		}
		x, err := p.expression()
		if err != nil {
			return nil, err
		}
		node.targets, node.values = append(node.targets, to), append(node.values, x)
	}
	var err error
	node.body, err = p.closedBody(tag, "endwith")
	return node, err
}
