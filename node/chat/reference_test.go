package chat_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/node/chat"
)

type recorded struct {
	ChatTemplate string `json:"chat_template"`
	Cases        []struct {
		Name                string          `json:"name"`
		Messages            []chat.Message  `json:"messages"`
		Tools               json.RawMessage `json:"tools"`
		AddGenerationPrompt bool            `json:"add_generation_prompt"`
		Prompt              string          `json:"prompt"`
		Error               string          `json:"error"`
	} `json:"cases"`
}

func readRecorded(t *testing.T, name string) recorded {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var r recorded
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Cases) == 0 {
		t.Fatalf("%s has no cases", name)
	}
	return r
}

func TestRenderEqualsTheReferenceServer(t *testing.T) {
	for _, file := range []string{"chat_smollm2.json", "chat_qwen.json"} {
		r := readRecorded(t, file)
		tpl, err := chat.Compile(r.ChatTemplate)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, c := range r.Cases {
			t.Run(file+"/"+c.Name, func(t *testing.T) {
				got, err := tpl.Render(chat.Input{
					Messages: c.Messages, Tools: c.Tools, AddGenerationPrompt: c.AddGenerationPrompt,
				})
				if (err != nil) != (c.Error != "") {
					t.Fatalf("error %v, reference error %q", err, c.Error)
				}
				if diff := cmp.Diff(c.Prompt, got); diff != "" {
					t.Errorf("prompt differs (-reference +got):\n%s", diff)
				}
			})
		}
	}
}
