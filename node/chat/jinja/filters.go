package jinja

// builtin is a filter: its first positional argument is the filtered value.
type builtin func(rt *run, a *arguments) (Value, error)

// filters are the names after "|".
var filters map[string]builtin

func init() { filters = merge(textFilters, numberFilters, listFilters, selectFilters()) }

// filterArgs binds the arguments of a filter: the value, then the named ones. The
// value itself must be given.
func (a *arguments) filterArgs(name string, params ...string) (Value, []Value, error) {
	p, err := a.bind(name, 1, append([]string{"value"}, params...)...)
	if err != nil {
		return nil, nil, err
	}
	return p[0], p[1:], nil
}
