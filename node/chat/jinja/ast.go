package jinja

// expr is an expression node. eval never changes the node, so that one compiled
// template serves concurrent renders.
type expr interface {
	eval(rt *run, sc *scope) (Value, error)
}

// stmt is a statement node; exec writes to the run's current output.
type stmt interface {
	exec(rt *run, sc *scope) error
}

type (
	literal   struct{ value Value }
	nameExpr  struct{ name string }
	listExpr  struct{ items []expr }
	tupleExpr struct{ items []expr }
	dictExpr  struct{ keys, vals []expr }

	attrExpr struct {
		object expr
		name   string
		line   int
	}
	itemExpr struct {
		object, key expr
		line        int
	}
	sliceExpr struct {
		object            expr
		start, stop, step expr // nil when left out
		line              int
	}
	unaryExpr struct {
		op   string
		x    expr
		line int
	}
	binaryExpr struct {
		op   string
		x, y expr
		line int
	}
	// logicExpr is "and" and "or", which give one of their operands.
	logicExpr struct {
		and  bool
		x, y expr
	}
	notExpr struct{ x expr }
	// compareExpr is a chain: x op[0] ys[0] op[1] ys[1] …
	compareExpr struct {
		x    expr
		ops  []string
		ys   []expr
		line int
	}
	condExpr struct {
		cond, then, otherwise expr // otherwise is nil when left out
	}
	callExpr struct {
		callee expr
		args   argExprs
		line   int
	}
	filterExpr struct {
		name string
		x    expr // nil in a filter block: the block's text
		args argExprs
		line int
	}
	testExpr struct {
		name   string
		negate bool
		x      expr
		args   argExprs
		line   int
	}
)

// argExprs are the arguments of a call as written.
type argExprs struct {
	positional []expr
	names      []string
	named      []expr
	list, dict expr // of *list and **dict; nil when absent
}

type (
	textStmt  struct{ text string }
	printStmt struct {
		x    expr
		line int
	}
	ifStmt struct {
		cond       expr
		then, more []stmt
		line       int
	}
	forStmt struct {
		target    target
		source    expr
		filter    expr // nil when absent
		body      []stmt
		otherwise []stmt
		recursive bool
		line      int
	}
	setStmt struct {
		target target
		x      expr
		line   int
	}
	setBlockStmt struct {
		target target
		body   []stmt
		filter expr // nil when absent
		line   int
	}
	macroStmt struct {
		sig  *signature
		line int
	}
	callBlockStmt struct {
		sig  *signature
		call *callExpr
		line int
	}
	filterBlockStmt struct {
		body   []stmt
		filter expr
		line   int
	}
	// withStmt also stands for generation blocks: a scope and nothing else.
	withStmt struct {
		targets []target
		values  []expr
		body    []stmt
		line    int
	}
	breakStmt    struct{}
	continueStmt struct{}
)

// target is the left side of an assignment: a name, a name and an attribute of a
// namespace, or a tuple of targets.
type target struct {
	name, attr string
	tuple      []target
}

// signature is a macro as written: parameters, defaults for the last of them, body.
type signature struct {
	name     string
	params   []string
	defaults []expr
	body     []stmt
	// usesCaller and its like say which implicit variables the body names; only
	// those are accepted from callers.
	usesCaller, usesKwargs, usesVarargs bool
	line                                int
}
