package node

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/chat"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/shard/sample"
	"github.com/weft-mesh/weft/shard/vocab"
)

// Defaults of sampling, where neither the request nor the model's metadata says.
const (
	defaultTemperature = 0.7
	defaultTopP        = 0.9
	penaltyWindow      = 64
)

// promptTokens makes the tokens of a request's prompt.
func promptTokens(m *opened, r api.GenerateRequest, now func() time.Time) ([]int32, error) {
	switch {
	case len(r.Tokens) > 0:
		for i, t := range r.Tokens {
			if t < 0 || int(t) >= m.config.Vocab {
				return nil, &api.Error{Kind: api.KindInvalid, Param: "prompt", Message: fmt.Sprintf("token %d of the prompt is %d; the vocabulary of %s has %d", i, t, m.entry.Name, m.config.Vocab)}
			}
		}
		return r.Tokens, nil
	case r.Prompt != nil:
		ids := m.vocab.Encode(*r.Prompt, vocab.EncodeOptions{ParseSpecial: true, AddSpecial: true})
		if len(ids) == 0 && m.vocab.BOS() != vocab.NoToken {
			ids = append(ids, m.vocab.BOS())
		}
		return ids, nil
	default:
		return chatTokens(m, r, now)
	}
}

func chatTokens(m *opened, r api.GenerateRequest, now func() time.Time) ([]int32, error) {
	t, err := m.template()
	if err != nil {
		return nil, api.Errorf(api.KindInvalid, "%w", err)
	}
	text, err := t.Render(chat.Input{
		Messages: r.Messages, Tools: r.Tools, AddGenerationPrompt: true, Extra: r.TemplateArgs, Now: now,
		BOSToken: special(m.vocab, m.vocab.BOS()), EOSToken: special(m.vocab, m.vocab.EOS()),
	})
	if err != nil {
		return nil, &api.Error{Kind: api.KindInvalid, Param: "messages", Message: err.Error()}
	}
	ids := m.vocab.Encode(text, vocab.EncodeOptions{ParseSpecial: true, AddSpecial: true})
	// Many templates write BOS themselves.
	if len(ids) > 1 && ids[0] == m.vocab.BOS() && ids[1] == ids[0] {
		ids = ids[1:]
	}
	if n := len(ids); n > 0 && m.vocab.AddEOS() && ids[n-1] == m.vocab.EOS() {
		ids = ids[:n-1] // the reply is still to come
	}
	return ids, nil
}

func special(v *vocab.Vocab, id int32) string {
	if id == vocab.NoToken {
		return ""
	}
	return v.Entry(id)
}

// samplingOf fills in what the request leaves open from the model's metadata.
func samplingOf(m *opened, r api.GenerateRequest) (*weftv1.Sampling, error) {
	s := &weftv1.Sampling{
		Choice: uint32(r.Choice), Temperature: metaOr(m, "general.sampling.temp", defaultTemperature), TopP: metaOr(m, "general.sampling.top_p", defaultTopP),
		RepeatPenalty: r.RepeatPenalty, PresencePenalty: r.PresencePenalty, FrequencyPenalty: r.FrequencyPenalty, PenaltyLastN: penaltyWindow,
	}
	if s.RepeatPenalty == 0 {
		s.RepeatPenalty = 1
	}
	if r.Temperature != nil {
		s.Temperature = *r.Temperature
	}
	if r.TopP != nil {
		s.TopP = *r.TopP
	}
	if r.TopK != nil {
		s.TopK = uint32(max(0, *r.TopK))
	}
	if r.MinP != nil {
		s.MinP = *r.MinP
	}
	for _, c := range []struct {
		param    string
		value    float64
		min, max float64
	}{
		{"temperature", s.Temperature, 0, 100},
		{"top_p", s.TopP, 0, 1},
		{"min_p", s.MinP, 0, 1},
		{"repeat_penalty", s.RepeatPenalty, 0.01, 100},
		{"presence_penalty", s.PresencePenalty, -100, 100},
		{"frequency_penalty", s.FrequencyPenalty, -100, 100},
	} {
		if math.IsNaN(c.value) || c.value < c.min || c.value > c.max {
			return nil, &api.Error{Kind: api.KindInvalid, Param: c.param, Message: fmt.Sprintf("%s is %v; it must be from %v to %v", c.param, c.value, c.min, c.max)}
		}
	}
	if r.Logprobs > 0 {
		s.WantLogprobs, s.Logprobs = true, uint32(min(r.Logprobs-1, 20))
	}
	if len(r.LogitBias) > sample.MaxBiases {
		return nil, &api.Error{Kind: api.KindInvalid, Param: "logit_bias", Message: fmt.Sprintf("logit_bias has %d entries; at most %d are possible", len(r.LogitBias), sample.MaxBiases)}
	}
	for id, b := range r.LogitBias {
		if id < 0 || id >= m.config.Vocab || math.IsNaN(b) || math.Abs(b) > 100 {
			return nil, &api.Error{Kind: api.KindInvalid, Param: "logit_bias", Message: fmt.Sprintf("logit_bias names token %d with %v; tokens are 0 to %d, biases -100 to 100", id, b, m.config.Vocab-1)}
		}
		s.Bias = append(s.Bias, &weftv1.LogitBias{Token: uint32(id), Bias: b})
	}
	if r.Seed != nil {
		s.Seed = *r.Seed
	} else {
		var b [8]byte
		rand.Read(b[:])
		s.Seed = binary.LittleEndian.Uint64(b[:]) >> 11 // fits a JSON number
	}
	return s, nil
}

func metaOr(m *opened, key string, def float64) float64 {
	if v, err := m.manifest.Header.Meta.Float(key); err == nil && v >= 0 && !math.IsNaN(v) {
		return v
	}
	return def
}
