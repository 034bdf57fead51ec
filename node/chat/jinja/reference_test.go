package jinja_test

import (
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/node/chat/jinja"
)

// refNow is the time that make_reference.py gives to strftime_now.
func refNow() time.Time { return time.Date(2026, 3, 7, 9, 5, 2, 1234000, time.UTC) }

// reference is what the Python implementation made of our snippets.
type reference struct {
	Vars  map[string]json.RawMessage `json:"vars"`
	Cases []struct {
		Name     string  `json:"name"`
		Template string  `json:"template"`
		Output   *string `json:"output"`
		Error    string  `json:"error"`
		Message  string  `json:"message"`
	} `json:"cases"`
}

func readReference(t testing.TB) reference {
	t.Helper()
	data, err := os.ReadFile("testdata/reference.json")
	if err != nil {
		t.Fatal(err)
	}
	var r reference
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r reference) vars(t testing.TB) map[string]jinja.Value {
	t.Helper()
	vars := map[string]jinja.Value{}
	for name, raw := range r.Vars {
		v, err := jinja.FromJSON(raw)
		if err != nil {
			t.Fatal(err)
		}
		vars[name] = v
	}
	return vars
}

func render(src string, vars map[string]jinja.Value) (string, error) {
	tpl, err := jinja.Compile(src)
	if err != nil {
		return "", err
	}
	return tpl.Render(vars, jinja.Options{Now: refNow})
}

func TestRenderEqualsTheReferenceImplementation(t *testing.T) {
	r := readReference(t)
	if len(r.Cases) < 300 {
		t.Fatalf("only %d cases recorded", len(r.Cases))
	}
	for _, c := range r.Cases {
		t.Run(c.Name, func(t *testing.T) {
			got, err := render(c.Template, r.vars(t))
			if c.Output != nil {
				if err != nil {
					t.Fatalf("template %q: %v\nreference output %q", c.Template, err, *c.Output)
				}
				if diff := cmp.Diff(*c.Output, got); diff != "" {
					t.Errorf("template %q (-reference +got):\n%s", c.Template, diff)
				}
				return
			}
			var e *jinja.Error
			if !errors.As(err, &e) {
				t.Fatalf("template %q gave %q and the error %v, reference: %s %s", c.Template, got, err, c.Error, c.Message)
			}
			if want := c.Message; want != "" && e.Message != want {
				t.Errorf("template %q: message %q, reference %q", c.Template, e.Message, want)
			}
			wantKind := map[string]jinja.Kind{"raised": jinja.RaisedError, "undefined": jinja.UndefinedError, "syntax": jinja.SyntaxError}
			if kind, ok := wantKind[c.Error]; ok && e.Kind != kind {
				t.Errorf("template %q: kind %v, reference %s (%v)", c.Template, e.Kind, c.Error, err)
			}
		})
	}
}
