package main

import (
	"strings"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/chat"
)

// kind is a kind of prompt.
type kind struct {
	name string
	set  func(r *api.GenerateRequest)
}

// kinds are what people ask, by how much of the reply is known beforehand. A
// small model follows instructions badly, so what is to be copied is shown being
// copied.
var kinds = []kind{
	{"copy-editing code", func(r *api.GenerateRequest) {
		raw(r, "Old version:\n\n"+code+"\nNew version, where Count is named Tally:\n\n"+strings.ReplaceAll(code, "Count", "Tally")+
			"\nOld version:\n\n"+code+"\nNew version, where Count is named Number:\n\nfunc")
	}},
	{"quoting a text", func(r *api.GenerateRequest) {
		raw(r, "The text:\n\n"+text+"\n\nThe text once more, word by word:\n\n"+text+"\n\nThe text for the third time, word by word:\n\nThe")
	}},
	{"chat", func(r *api.GenerateRequest) {
		r.Messages = []chat.Message{{Role: "user", Content: chat.Text("What should I look at when I buy a used bicycle? Answer as a numbered list.")}}
	}},
	{"free writing", func(r *api.GenerateRequest) {
		r.Messages = []chat.Message{{Role: "user", Content: chat.Text("Write a short story about a lighthouse keeper who finds a letter.")}}
		temperature, topP, seed := 0.9, 0.95, uint64(11)
		r.Temperature, r.TopP, r.Seed = &temperature, &topP, &seed
	}},
}

func raw(r *api.GenerateRequest, s string) { r.Prompt = &s }

const code = `func Count(lines []string) map[string]int {
	out := make(map[string]int, len(lines))
	for _, line := range lines {
		for _, word := range strings.Fields(line) {
			word = strings.ToLower(strings.Trim(word, ".,;:!?"))
			if word == "" {
				continue
			}
			out[word]++
		}
	}
	return out
}
`

const text = `The harbour lay still under the morning fog. Two boats had come in during the night,
their nets folded on the deck, and nobody had seen who tied them to the quay. An old man
walked along the wall, counted the ropes, and wrote the number into a small grey book.`
