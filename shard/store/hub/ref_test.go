package hub_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/weft-mesh/weft/shard/store/hub"
)

func TestParseRefRefusesWhatIsNoReference(t *testing.T) {
	for _, s := range []string{"", "o/r", "hf:", "hf:o", "hf:o/r/x", "hf:../r", "hf:o/..", "hf:o/r:", "hf:o /r", "hf:o/r?x", "hf:o/r..x"} {
		if r, err := hub.ParseRef(s); err == nil {
			t.Errorf("%q is said to be %v", s, r)
		}
	}
	if !hub.IsRef("hf:x") || hub.IsRef("x") {
		t.Error("IsRef")
	}
}

func TestPickChoosesByQuantisation(t *testing.T) {
	const a, b = "m-Q4_K_M.gguf", "m-Q8_0.gguf"
	for _, c := range []struct {
		files, quant, want string
		err                error
	}{
		{a + " " + b, "", a, nil},
		{a + " " + b, "q8_0", b, nil},
		{a + " " + b, "Q4_K", "", hub.ErrNoFile}, // is no word of its own
		{b + " m-f16.gguf", "", b, nil},
		{"m.gguf README.md", "", "m.gguf", nil},
		{"m.Q4_K_M.gguf mmproj-Q4_K_M.gguf m.imatrix.gguf", "", "m.Q4_K_M.gguf", nil},
		{"x-Q4_K_M.gguf y-Q4_K_M.gguf", "", "", hub.ErrAmbiguous},
		{"x-Q4_K_M.gguf y-Q4_K_M.gguf", "Y-q4_k_m.GGUF", "y-Q4_K_M.gguf", nil},
		{"x-custom.gguf y-special.gguf", "", "", hub.ErrAmbiguous},
		{"d/m-Q4_0-00002-of-00002.gguf d/m-Q4_0-00001-of-00002.gguf", "Q4_0", "d/m-Q4_0-00001-of-00002.gguf d/m-Q4_0-00002-of-00002.gguf", nil},
		{"m-Q4_0-00002-of-00002.gguf", "", "", hub.ErrNoFile},
		{"m-Q4_0-00001-of-00003.gguf m-Q4_0-00002-of-00003.gguf", "Q4_0", "", hub.ErrNoFile},
		{"model.safetensors", "", "", hub.ErrNoFile},
	} {
		var files []hub.File
		for p := range strings.FieldsSeq(c.files) {
			files = append(files, hub.File{Path: p, Size: 1})
		}
		got, err := hub.Pick(files, c.quant)
		var names []string
		for _, f := range got {
			names = append(names, f.Path)
		}
		if strings.Join(names, " ") != c.want || !errors.Is(err, c.err) {
			t.Errorf("%q of %s: %v, %v", c.quant, c.files, names, err)
		}
	}
}

func TestNewChecksTheEndpoint(t *testing.T) {
	env := map[string]string{"HF_ENDPOINT": "ftp://x", "HF_TOKEN": " t\n"}
	o := hub.FromEnv(func(k string) string { return env[k] })
	if o.Token != "t" {
		t.Errorf("token %q", o.Token)
	}
	if _, err := hub.New(o); err == nil {
		t.Error("ftp was accepted")
	}
	if _, err := hub.New(hub.Options{}); err != nil {
		t.Error(err)
	}
}
