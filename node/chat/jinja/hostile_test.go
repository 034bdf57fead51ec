package jinja_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weft-mesh/weft/node/chat/jinja"
)

// Each of these would run for ages, fill the memory or overflow the stack if it were
// not bounded.
func TestHostileTemplatesEndInALimitError(t *testing.T) {
	deep := func(open, mid, end string, n int) string {
		return strings.Repeat(open, n) + mid + strings.Repeat(end, n)
	}
	for name, src := range map[string]string{
		"nested loops":      "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}",
		"long range":        "{{ range(10**12) }}",
		"output":            "{% for a in range(99999) %}{{ 'x' * 100000 }}{% endfor %}",
		"repeat text":       "{{ 'x' * 10**12 }}",
		"repeat list":       "{{ [1] * 10**12 }}",
		"doubling text":     "{% set ns = namespace(s='ab') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
		"doubling list":     "{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
		"shared list":       "{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}",
		"shared list json":  "{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s | tojson }}",
		"shared list equal": "{% set ns = namespace(s=[1], t=[1]) %}{% for i in range(99) %}{% set ns.s = [ns.s, ns.s] %}{% set ns.t = [ns.t, ns.t] %}{% endfor %}{{ ns.s == ns.t }}",
		"list in itself":    "{% set l = [] %}{% set _ = l.append(l) %}{{ l }}",
		"equal to itself":   "{% set l = [] %}{% set _ = l.append(l) %}{% set m = [] %}{% set _ = m.append(m) %}{{ l == m }}",
		"list in json":      "{% set l = [] %}{% set _ = l.append(l) %}{{ l | tojson }}",
		"endless macro":     "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
		"endless recursion": "{% set l = [1] %}{% for x in l recursive %}{{ loop(l) }}{% endfor %}",
		"wide indent":       "{{ [1] | tojson(indent=10**9) }}",
		"wide format":       "{{ '%999999999d' % 1 }}",
		"wide star":         "{{ '%*d' % (10**9, 1) }}",
		"wide brace":        "{{ '{:>999999999}'.format(1) }}",
		"center":            "{{ 'x' | center(10**12) }}",
		"zfill":             "{{ 'x'.zfill(10**12) }}",
		"indent":            "{{ 'x' | indent(10**12) }}",
		"replace":           "{{ ('x' * 100000).replace('x', 'y' * 100000) }}",
		"join":              "{{ (['x' * 100000] * 1000) | join('y' * 100000) }}",
		"power":             "{{ 10 ** (10 ** 10) }}",
		"huge product":      "{% set ns = namespace(n=10) %}{% for i in range(99) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
		"parentheses":       "{{ " + deep("(", "1", ")", 5000) + " }}",
		"brackets":          "{{ " + deep("[", "", "]", 5000) + " }}",
		"braces":            "{{ " + deep("{1:", "1", "}", 5000) + " }}",
		"nots":              "{{ " + strings.Repeat("not ", 5000) + "1 }}",
		"signs":             "{{ " + strings.Repeat("-", 5000) + "1 }}",
		"ifs":               deep("{% if 1 %}", "", "{% endif %}", 5000),
		"elifs":             "{% if 0 %}" + strings.Repeat("{% elif 0 %}", 5000) + "{% endif %}",
		"calls":             "{{ f" + strings.Repeat("(f", 5000),
		"targets":           "{% for " + strings.Repeat("(", 5000),
		"long sum":          "{{ 1" + strings.Repeat("+1", 100000) + " }}",
		"long attribute":    "{{ a" + strings.Repeat(".b", 100000) + " }}",
		"long filters":      "{{ a" + strings.Repeat("|upper", 100000) + " }}",
		"long source":       strings.Repeat("x", jinja.MaxSource+1),
		"append":            "{% set l = [] %}{% for i in range(99999) %}{% for j in range(99999) %}{% set _ = l.append(i) %}{% endfor %}{% endfor %}",
		"insert in front":   "{% set l = [] %}{% for i in range(99999) %}{% set _ = l.insert(0, i) %}{% endfor %}",
		"spread":            "{% set d = {} %}{% for i in range(90000) %}{% set _ = d.update({i ~ '': 1}) %}{% endfor %}{% for i in range(99999) %}{{ dict(**d) and '' }}{% endfor %}",
		"copying dicts":     "{% set d = {} %}{% for i in range(9000) %}{% set _ = d.update({i: 1}) %}{% endfor %}{% for i in range(99999) %}{% set x = dict(d) %}{% endfor %}",
		"counting runes":    "{% set s = 'é' * 2000000 %}{% for i in range(99999) %}{% set x = s | length %}{% endfor %}",
		"indexing text":     "{% set s = 'é' * 2000000 %}{% for i in range(99999) %}{% set x = s[1] %}{% endfor %}",
		"long keys":         "{% set s = 'x' * 4000000 %}{% for i in range(99999) %}{% set x = d[s] if d else s in {} %}{% endfor %}",
		"long methods":      "{% set s = 'x' * 4000000 %}{% for i in range(99999) %}{% set x = s.removesuffix(s) ~ s.isalpha() ~ s.partition('y')[0]|wordcount %}{% endfor %}",
		"pop in a loop":     "{% set d = {} %}{% for i in range(9000) %}{% set _ = d.update({i: 1}) %}{% endfor %}{% for i in range(9000) %}{% set _ = d.pop(i) %}{% endfor %}",
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			out, err := render(src, nil)
			var e *jinja.Error
			if !errors.As(err, &e) || e.Kind != jinja.LimitError {
				t.Fatalf("got %d bytes and the error %v, want a limit error", len(out), err)
			}
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestErrorsNameTheLine(t *testing.T) {
	for src, want := range map[string]string{
		"a\nb {{ missing.x }}": "chat template line 2: undefined value: 'missing' is undefined",
		"\n\n{% if x %}":       "chat template line 3: syntax error: the template ends while 'if' of line 3 is open",
		"{% for x in [1] %}\n{{ raise_exception('no ' ~ x) }}{% endfor %}": "chat template line 2: raised by the template: no 1",
	} {
		if _, err := render(src, nil); err == nil || err.Error() != want {
			t.Errorf("template %q: error %v, want %s", src, err, want)
		}
	}
}

func TestRenderRefusesForeignGoValues(t *testing.T) {
	if _, err := render("{{ x }}", map[string]jinja.Value{"x": struct{}{}}); err == nil {
		t.Error("a Go struct was accepted as a variable")
	}
}

func TestStrftimeNeedsAClock(t *testing.T) {
	tpl, err := jinja.Compile("{{ strftime_now('%Y') }}")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tpl.Render(nil, jinja.Options{}); err == nil || !strings.Contains(err.Error(), "clock") {
		t.Errorf("error %v does not say that the clock is missing", err)
	}
}

func TestFromJSONRefusesBadInput(t *testing.T) {
	for _, src := range []string{"", "{", "[1", `{"a"`, "1 2", "nul", strings.Repeat("[", 300) + strings.Repeat("]", 300), strings.Repeat("9", 5000)} {
		if v, err := jinja.FromJSON([]byte(src)); err == nil {
			t.Errorf("%.20q decoded to %v", src, v)
		}
	}
}

func TestOneTemplateRendersConcurrently(t *testing.T) {
	r := readReference(t)
	var wg sync.WaitGroup
	for _, c := range r.Cases[len(r.Cases)-40:] {
		tpl, err := jinja.Compile(c.Template)
		if err != nil || c.Output == nil {
			continue
		}
		for range 4 {
			wg.Go(func() {
				got, err := tpl.Render(r.vars(t), jinja.Options{Now: refNow})
				if err != nil || got != *c.Output {
					t.Errorf("%s: another output when rendered concurrently (%v)", c.Name, err)
				}
			})
		}
	}
	wg.Wait()
}

func FuzzCompileAndRender(f *testing.F) {
	r := readReference(f)
	for _, c := range r.Cases {
		f.Add(c.Template)
	}
	f.Fuzz(func(t *testing.T, src string) {
		tpl, err := jinja.Compile(src)
		if err != nil {
			mustBeOurs(t, err)
			return
		}
		limits := jinja.Limits{Output: 1 << 16, Text: 1 << 16, Steps: 50_000}
		out, err := tpl.Render(r.vars(t), jinja.Options{Now: refNow, Limits: limits})
		if err != nil {
			mustBeOurs(t, err)
			return
		}
		if len(out) > 1<<16 {
			t.Errorf("output of %d bytes is past the limit", len(out))
		}
		again, err := tpl.Render(r.vars(t), jinja.Options{Now: refNow, Limits: limits})
		if err != nil || again != out {
			t.Errorf("two renders differ: %q, then %q (%v)", out, again, err)
		}
	})
}

func mustBeOurs(t *testing.T, err error) {
	t.Helper()
	var e *jinja.Error
	if !errors.As(err, &e) {
		t.Errorf("error %v (%T) is not an *Error", err, err)
	}
}

func FuzzFromJSON(f *testing.F) {
	f.Add([]byte(`{"a":[1,2.5,null,true,"x"],"b":{"c":12345678901234567890}}`))
	f.Add([]byte(`[[[[]]]]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := jinja.FromJSON(data)
		if err != nil {
			return
		}
		text, err := render("{{ v | tojson }}", map[string]jinja.Value{"v": v})
		if err != nil {
			return
		}
		again, err := jinja.FromJSON([]byte(text))
		if err != nil {
			// Python writes infinities, which JSON lacks.
			if strings.Contains(text, "Infinity") {
				return
			}
			t.Fatalf("tojson wrote %q, which does not decode: %v", text, err)
		}
		second, err := render("{{ v | tojson }}", map[string]jinja.Value{"v": again})
		if err != nil || second != text {
			t.Errorf("tojson of %q is %q (%v)", text, second, err)
		}
	})
}
